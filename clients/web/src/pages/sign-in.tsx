import { useEffect, useRef } from "preact/hooks";
import { expired } from "../api/call";
import { signIn, signInMethods } from "../api/session";
import { useAction } from "../parts/action";
import { Form } from "../parts/dialog";
import { Field, text } from "../parts/field";
import { Show, useLoaded } from "../parts/loaded";
import { place } from "../route";

/** By password, by the lab's own sign-in, or by an API token: what this platform offers. */
export function SignIn({ message, within }: { message: string; within?: boolean }) {
  const methods = useLoaded(signInMethods, []);
  const password = useAction();
  const token = useAction();
  const section = useRef<HTMLElement>(null);
  useEffect(() => {
    section.current?.querySelector("input")?.focus();
  }, [methods.value]);

  const enter = (action: typeof token, secret: Parameters<typeof signIn>[0]) =>
    action.run(async () => {
      await signIn(secret);
      expired.set(false);
    });

  return (
    <section class={within ? "" : "sign-in"} ref={section}>
      {!within && <h1>Sign in</h1>}
      {message && (
        <p class="failure" role="alert">
          {message}
        </p>
      )}
      <Show of={methods}>
        {({ password: byPassword, oidc }) => (
          <>
            {oidc && (
              <p>
                <a class="button main" href={`/auth/oidc/login?return_to=${encodeURIComponent(place.value)}`}>
                  Sign in with {oidc.name}
                </a>
              </p>
            )}
            {byPassword && (
              <Form
                action={password}
                submit="Sign in"
                onSubmit={(fields) =>
                  enter(password, {
                    user: text(fields, "user"),
                    password: String(fields.get("password") ?? ""),
                  })
                }
              >
                <Field
                  label="User"
                  name="user"
                  autocomplete="username"
                  autocapitalize="none"
                  spellcheck={false}
                  required
                />
                <Field
                  label="Password"
                  name="password"
                  type="password"
                  autocomplete="current-password"
                  required
                />
              </Form>
            )}
            <details open={!byPassword && !oidc}>
              <summary>With an API token</summary>
              <Form
                action={token}
                submit="Sign in with the token"
                onSubmit={(fields) => enter(token, { token: text(fields, "token") })}
              >
                <Field
                  label="API token"
                  name="token"
                  type="password"
                  placeholder="bsg_…"
                  spellcheck={false}
                  required
                  hint="On the machine that runs the platform, the administrator's is in the file token of its data folder."
                />
              </Form>
            </details>
          </>
        )}
      </Show>
    </section>
  );
}
