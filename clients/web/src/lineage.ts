import type { Model } from "./api/messages";
import { last } from "./format";

/** A model in the tree of those that it came from. */
export interface Leaf {
  model: Model;
  depth: number;
  /** What it started from, for people. */
  parent: string;
}

/** Models as a tree, each below its parent, oldest first among brothers. `others` only lend names to parents. */
export function lineage(models: Model[], others: Model[]): Leaf[] {
  const known = new Map(models.map((model) => [model.name, model]));
  const named = new Map([...others, ...models].map((model) => [model.name, model]));
  const children = new Map<string, Model[]>();
  for (const model of models) {
    const root = known.has(model.parent) && model.parent !== model.name ? model.parent : "";
    children.set(root, [...(children.get(root) ?? []), model]);
  }
  const leaves: Leaf[] = [];
  const add = (parent: string, depth: number) => {
    const brothers = [...(children.get(parent) ?? [])].sort((one, other) => one.version - other.version);
    for (const model of brothers) {
      leaves.push({ model, depth, parent: nameOf(model.parent, named) });
      add(model.name, depth + 1);
    }
  };
  add("", 0);
  return leaves;
}

function nameOf(name: string, models: Map<string, Model>): string {
  if (!name) return "random weights";
  const model = models.get(name);
  if (!model) return last(name);
  return model.shared ? model.displayName || last(name) : `v${model.version}`;
}
