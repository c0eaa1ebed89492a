import { useEffect } from "preact/hooks";

/** The name of the window and of its entry in the history. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · BioSegment` : "BioSegment";
  }, [title]);
}
