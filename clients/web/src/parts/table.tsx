import type { ComponentChildren } from "preact";

export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  number?: boolean;
}

interface TableProps<T> {
  rows: readonly T[];
  columns: readonly Column<T>[];
  id: (row: T) => string;
  caption: string;
  nothing: ComponentChildren;
}

/** Rows and columns; on narrow screens each row becomes a list with the titles beside the values. */
export function Table<T>({ rows, columns, id, caption, nothing }: TableProps<T>) {
  if (!rows.length) return <p class="hint">{nothing}</p>;
  return (
    <table>
      <caption class="unseen">{caption}</caption>
      <thead>
        <tr>
          {columns.map((column) => (
            <th key={column.title} scope="col" class={column.number ? "number" : ""}>
              {column.title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={id(row)}>
            {columns.map((column) => (
              <td key={column.title} class={column.number ? "number" : ""} data-label={column.title}>
                <div>{column.cell(row)}</div>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
