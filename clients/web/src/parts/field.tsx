import type { TargetedEvent } from "preact";
import { useId } from "preact/hooks";

type Handler = (event: TargetedEvent<HTMLInputElement>) => void;

interface FieldProps {
  label: string;
  /** Units, limits, what happens when it is empty. */
  hint?: string;
  name?: string;
  type?: "text" | "password" | "number" | "file";
  value?: string;
  defaultValue?: string;
  placeholder?: string;
  pattern?: string;
  min?: string;
  max?: string;
  step?: string;
  minLength?: number;
  maxLength?: number;
  inputMode?: "decimal";
  autocomplete?: string;
  autocapitalize?: "none";
  spellcheck?: boolean;
  required?: boolean;
  autofocus?: boolean;
  /** Id of a list of suggestions. */
  list?: string;
  onInput?: Handler;
  onChange?: Handler;
}

/** A labelled input. */
export function Field({ label, hint, ...attributes }: FieldProps) {
  const id = useId();
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} autocomplete="off" {...described} {...(attributes as object)} />
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

interface ChoiceProps {
  label: string;
  name?: string;
  value?: string;
  options: readonly (readonly [value: string, text: string])[];
  onChange?: (value: string) => void;
}

export function Choice({ label, name, value, options, onChange }: ChoiceProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} name={name} value={value} onChange={(event) => onChange?.(event.currentTarget.value)}>
        {options.map(([each, text]) => (
          <option key={each} value={each} selected={each === value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Text of a form's field, without blanks around it. */
export const text = (fields: FormData, name: string): string => String(fields.get(name) ?? "").trim();

/** Number of a form's field, 0 when it is empty. */
export const number = (fields: FormData, name: string): number =>
  Number(text(fields, name).replace(",", ".")) || 0;
