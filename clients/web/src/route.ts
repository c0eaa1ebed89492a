import { Store } from "./store";

/** Path and query of the address bar. */
export const place = new Store(location.pathname + location.search);

/** Whether the page may be left: asked before every move, for forms and uploads under way. */
export const guards = new Set<() => boolean>();

export function go(path: string, replace = false): void {
  if (![...guards].every((guard) => guard())) return;
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  place.set(path);
  if (!replace) scrollTo(0, 0);
}

/** Links of our own become moves within the page, unless somebody wants a new tab. */
export function followLinks(): void {
  addEventListener("popstate", () => place.set(location.pathname + location.search));
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!/^\/($|projects|administration|account)/.test(link.pathname) || link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
