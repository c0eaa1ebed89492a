import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { type Action, Failure, useAction } from "./action";

/** A modal dialog; the browser keeps the focus within and Escape closes it. */
export function Dialog({
  title,
  close,
  children,
}: {
  title: string;
  close: () => void;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  const cancel = (event: Event) => {
    event.preventDefault();
    close();
  };
  return (
    <dialog ref={element} aria-labelledby={id} onCancel={cancel}>
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" class="quiet" aria-label="Close" onClick={close}>
          ✕
        </button>
      </header>
      {children}
    </dialog>
  );
}

interface FormProps {
  action: Action;
  submit: string;
  onSubmit: (fields: FormData) => void;
  cancel?: () => void;
  danger?: boolean;
  children: ComponentChildren;
}

/** Fields with a button; nothing is sent by the browser itself. */
export function Form({ action, submit, onSubmit, cancel, danger, children }: FormProps) {
  return (
    <form
      class="fields"
      onSubmit={(event) => {
        event.preventDefault();
        if (!action.busy) onSubmit(new FormData(event.currentTarget));
      }}
    >
      {children}
      <Failure of={action} />
      <div class="buttons">
        <button type="submit" class={danger ? "danger" : "main"} disabled={action.busy}>
          {submit}
        </button>
        {cancel && (
          <button type="button" onClick={cancel}>
            Cancel
          </button>
        )}
      </div>
    </form>
  );
}

interface ConfirmProps {
  title: string;
  /** The word on the button that does it. */
  verb: string;
  work: () => Promise<unknown>;
  done?: string;
  close: () => void;
  children: ComponentChildren;
}

/** Asks before something that cannot be undone. */
export function Confirm({ title, verb, work, done, close, children }: ConfirmProps) {
  const action = useAction();
  const submit = async () => {
    if (await action.run(work, done)) close();
  };
  return (
    <Dialog title={title} close={close}>
      <Form action={action} submit={verb} danger onSubmit={submit} cancel={close}>
        {children}
      </Form>
    </Dialog>
  );
}
