import type { LabelClass } from "../api/messages";
import { color } from "../format";

const PALETTE = [0xe6194b, 0x3cb44b, 0x4363d8, 0xf58231, 0x911eb4, 0x42d4f4, 0xf032e6, 0xbfef45];

/** Classes with their colours. */
export function Classes({ of }: { of: LabelClass[] }) {
  return (
    <ul class="classes">
      {of.map((label) => (
        <li key={label.value}>
          <svg viewBox="0 0 10 10" aria-hidden="true">
            <rect width="10" height="10" rx="2" fill={color(label.colorRgb)} />
          </svg>
          {label.displayName}
        </li>
      ))}
    </ul>
  );
}

/** Names and colours of classes; those with a value exist and stay. */
export function ClassEditor({
  classes,
  change,
}: {
  classes: LabelClass[];
  change: (classes: LabelClass[]) => void;
}) {
  const put = (index: number, label: Partial<LabelClass>) =>
    change(classes.map((each, at) => (at === index ? { ...each, ...label } : each)));
  const add = () =>
    change([
      ...classes,
      { value: 0, displayName: "", colorRgb: PALETTE[classes.length % PALETTE.length] ?? 0 },
    ]);
  return (
    <fieldset>
      <legend>Classes: what is segmented</legend>
      {classes.map((label, index) => (
        // Rows have no other identity, and are only ever appended and taken away.
        <div class="class-row" key={index}>
          <input
            type="color"
            aria-label={`Colour of class ${index + 1}`}
            value={color(label.colorRgb)}
            onInput={(event) =>
              put(index, { colorRgb: Number.parseInt(event.currentTarget.value.slice(1), 16) })
            }
          />
          <input
            aria-label={`Name of class ${index + 1}`}
            value={label.displayName}
            required
            maxLength={100}
            onInput={(event) => put(index, { displayName: event.currentTarget.value })}
          />
          {classes.length > 1 && (
            <button
              type="button"
              class="quiet"
              aria-label={`Remove class ${label.displayName || index + 1}`}
              onClick={() => change(classes.filter((_, at) => at !== index))}
            >
              ✕
            </button>
          )}
        </div>
      ))}
      <button type="button" class="small" onClick={add}>
        Add a class
      </button>
    </fieldset>
  );
}
