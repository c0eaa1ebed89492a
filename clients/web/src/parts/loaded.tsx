import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ConnectionLost, connection, reasonOf } from "../api/call";
import { useStore } from "../store";

export interface Loaded<T> {
  value: T | undefined;
  error: string;
  loading: boolean;
  /** Ask again; what is shown stays until the answer is there. */
  reload: () => void;
  set: (value: T) => void;
}

/** What `load` answers, again whenever one of `keys` changes or the connection is back. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: unknown[]): Loaded<T> {
  const [value, setValue] = useState<T | undefined>(undefined);
  const [error, setError] = useState("");
  const [loading, setLoading] = useState(true);
  const [round, setRound] = useState(0);
  const back = useStore(connection).times;
  const shown = useRef("");
  const key = JSON.stringify(keys);

  useEffect(() => {
    const control = new AbortController();
    if (shown.current !== key) setValue(undefined);
    shown.current = key;
    setLoading(true);
    load(control.signal)
      .then((answer) => {
        if (control.signal.aborted) return;
        setValue(() => answer);
        setError("");
        setLoading(false);
      })
      .catch((cause) => {
        if (control.signal.aborted) return;
        // The page says by itself that the connection is lost, and this is asked again.
        setError(cause instanceof ConnectionLost ? "" : reasonOf(cause));
        setLoading(cause instanceof ConnectionLost);
      });
    return () => control.abort();
    // `load` is a new function at each drawing; `keys` say when it asks something else.
  }, [key, round, back]);

  const reload = useCallback(() => setRound((before) => before + 1), []);
  const set = useCallback((next: T) => setValue(() => next), []);
  return { value, error, loading, reload, set };
}

export interface Paged<T> extends Loaded<T[]> {
  more: (() => void) | undefined;
}

/** A list that is loaded page by page: the first at once, others when they are asked for. */
export function usePaged<T>(
  list: (pageToken: string, signal?: AbortSignal) => Promise<[T[], string]>,
  keys: unknown[],
): Paged<T> {
  const [pages, setPages] = useState(1);
  const key = JSON.stringify(keys);
  const forKey = useRef(key);
  if (forKey.current !== key) {
    forKey.current = key;
    if (pages !== 1) setPages(1);
  }
  const next = useRef("");
  const loaded = useLoaded<T[]>(
    async (signal) => {
      const found: T[] = [];
      let token = "";
      for (let page = 0; page < pages && (page === 0 || token); page++) {
        const [items, following] = await list(token, signal);
        found.push(...items);
        token = following;
      }
      next.current = token;
      return found;
    },
    [...keys],
  );
  const { reload } = loaded;
  const first = useRef(true);
  useEffect(() => {
    if (first.current) first.current = false;
    else reload();
  }, [pages, reload]);
  const more = loaded.value && next.current ? () => setPages(pages + 1) : undefined;
  return { ...loaded, more };
}

/** What is loaded, or why it is not there. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }) {
  return (
    <>
      {of.error && (
        <p class="failure" role="alert">
          {of.error}{" "}
          <button type="button" class="small" onClick={of.reload}>
            Try again
          </button>
        </p>
      )}
      {of.value !== undefined && children(of.value)}
      {of.value === undefined && !of.error && <p class="hint">Loading…</p>}
    </>
  );
}

export function More({ of }: { of: { more: (() => void) | undefined; loading: boolean } }) {
  if (!of.more) return null;
  return (
    <p>
      <button type="button" onClick={of.more} disabled={of.loading}>
        Show more
      </button>
    </p>
  );
}
