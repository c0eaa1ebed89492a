import { useLayoutEffect, useRef } from "preact/hooks";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

/** Act on single keys while nobody types and no dialog is open. */
export function useKeys(keys: Keys): void {
  const present = useRef(keys);
  present.current = keys;
  useLayoutEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target instanceof Element ? event.target : null;
      if (target?.closest("input:not([type=range]):not([type=checkbox]), textarea, select, dialog")) return;
      if (document.querySelector("dialog[open]")) return;
      const act = present.current[event.key];
      if (!act) return;
      event.preventDefault();
      act(event);
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}

/** Move the focus among the main links of the rows of a list. */
export function step(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>("main a[data-row]")];
  const index = rows.indexOf(document.activeElement as HTMLElement);
  rows[
    index < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, index + by))
  ]?.focus();
}
