import { Store } from "../store";
import { ask, ConnectionLost, connection, expired, post, Refusal } from "./call";

/** Who is signed in. */
export interface Self {
  userId: string;
  displayName: string;
  isAdmin: boolean;
}

/** How one may sign in here. */
export interface SignInMethods {
  password: boolean;
  oidc: { name: string } | null;
}

/** undefined while it is not known, null when nobody is. */
export const self = new Store<Self | null | undefined>(undefined);

export async function signInMethods(): Promise<SignInMethods> {
  return (await ask("/auth/methods")).json();
}

export async function signIn(secret: { user: string; password: string } | { token: string }): Promise<void> {
  const again = Boolean(self.value);
  await post("/auth/login", secret);
  await whoAmI();
  // What was refused meanwhile is asked for again.
  if (again) connection.set({ ...connection.value, times: connection.value.times + 1 });
}

export async function signOut(): Promise<void> {
  await post("/auth/logout", {});
  self.set(null);
  expired.set(false);
}

export async function whoAmI(): Promise<void> {
  try {
    const answer: Self = await (await ask("/auth/self")).json();
    const known = self.value;
    // Not a new object for the same person: what is on the page would be loaded again.
    if (known?.userId !== answer.userId || known.isAdmin !== answer.isAdmin) self.set(answer);
    expired.set(false);
  } catch (cause) {
    if (!(cause instanceof Refusal) || cause.status !== 401) throw cause;
    // Who was here may go on where they were; nobody else's page is shown to a stranger.
    if (self.value) expired.set(true);
    else self.set(null);
  }
}

/** The first question: `#token=` of `biosegment up` becomes a session and leaves the address bar at once. */
export async function begin(): Promise<string> {
  const given = location.hash.match(/^#token=([^&]+)/);
  if (given) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (given) await signIn({ token: decodeURIComponent(given[1] ?? "") });
    else await whoAmI();
  } catch (cause) {
    if (cause instanceof ConnectionLost) throw cause;
    self.set(null);
    return cause instanceof Error ? cause.message : String(cause);
  }
  return "";
}
