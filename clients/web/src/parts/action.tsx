import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { reasonOf } from "../api/call";
import { Store } from "../store";

/** What was done last, for those who see it and for those who hear it. */
export const said = new Store("");

export interface Action {
  busy: boolean;
  error: string;
  /** Run it; errors are shown where the action is, `done` is said at the foot of the page. */
  run: (work: () => Promise<unknown>, done?: string) => Promise<boolean>;
  clear: () => void;
}

export function useAction(): Action {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const here = useRef(true);
  useEffect(() => {
    here.current = true;
    return () => {
      here.current = false;
    };
  }, []);
  const run = useCallback(async (work: () => Promise<unknown>, done = "") => {
    setBusy(true);
    setError("");
    try {
      await work();
      if (done) said.set(done);
      return true;
    } catch (cause) {
      if (here.current) setError(reasonOf(cause));
      return false;
    } finally {
      if (here.current) setBusy(false);
    }
  }, []);
  return { busy, error, run, clear: () => setError("") };
}

export function Failure({ of }: { of: Action }) {
  if (!of.error) return null;
  return (
    <p class="failure" role="alert">
      {of.error}
    </p>
  );
}
