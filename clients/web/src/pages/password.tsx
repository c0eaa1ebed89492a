import { call, expired } from "../api/call";
import { last } from "../format";
import { useAction } from "../parts/action";
import { Dialog, Form } from "../parts/dialog";
import { Field } from "../parts/field";

/** Sets one's own password, or, for administrators, somebody else's. */
export function PasswordDialog({ user, own, close }: { user: string; own: boolean; close: () => void }) {
  const action = useAction();
  const submit = async (fields: FormData) => {
    const request = {
      name: user,
      oldPassword: String(fields.get("old") ?? ""),
      newPassword: String(fields.get("new") ?? ""),
    };
    if (await action.run(() => call("IdentityService/SetPassword", request), "The password is set.")) {
      close();
      // It ended all sessions of the user, this one too.
      if (own) expired.set(true);
    }
  };
  return (
    <Dialog title={own ? "Set a password" : `Set the password of ${last(user)}`} close={close}>
      <Form action={action} submit="Set the password" cancel={close} onSubmit={submit}>
        {own && (
          <Field
            label="Present password"
            name="old"
            type="password"
            autocomplete="current-password"
            hint="Nothing when there is none yet."
          />
        )}
        <Field
          label="New password"
          name="new"
          type="password"
          autocomplete="new-password"
          minLength={10}
          required
          hint="At least 10 characters. All sessions of the user end."
        />
      </Form>
    </Dialog>
  );
}
