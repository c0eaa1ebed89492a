import { useState } from "preact/hooks";

/** Text to be taken elsewhere; a click selects it where the browser lets nobody copy (plain http). */
export function CopyText({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return (
    <>
      <pre class="secret">{text}</pre>
      {navigator.clipboard && (
        <button type="button" onClick={copy}>
          {copied ? "Copied" : "Copy"}
        </button>
      )}
    </>
  );
}
