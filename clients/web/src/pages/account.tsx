import { useState } from "preact/hooks";
import { self } from "../api/session";
import { useTitle } from "../parts/title";
import { useStore } from "../store";
import { PasswordDialog } from "./password";
import { Tokens } from "./tokens";

export function AccountPage() {
  useTitle("You");
  const who = useStore(self);
  const [locking, setLocking] = useState(false);
  if (!who) return null;
  const user = `users/${who.userId}`;
  return (
    <section>
      <div class="heading">
        <h1>{who.displayName || who.userId}</h1>
        <button type="button" onClick={() => setLocking(true)}>
          Set a password
        </button>
      </div>
      <dl class="facts">
        <div>
          <dt>User id</dt>
          <dd>{who.userId}</dd>
        </div>
        <div>
          <dt>Administrator</dt>
          <dd>{who.isAdmin ? "yes" : "no"}</dd>
        </div>
      </dl>
      <Tokens parent={user} />
      {locking && <PasswordDialog user={user} own close={() => setLocking(false)} />}
    </section>
  );
}
