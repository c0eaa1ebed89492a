import type { Role } from "./api/messages";

/** What the page offers to somebody. The services decide what is done: this only spares people a refusal. */
export interface Rights {
  /** Settings, members, volumes, models and their jobs. */
  manage: boolean;
  /** The project itself, and who owns it. */
  own: boolean;
  annotate: boolean;
  export: boolean;
}

export function rightsOf(role: Role): Rights {
  const own = role === "ROLE_OWNER";
  const manage = own || role === "ROLE_MANAGER";
  const review = manage || role === "ROLE_REVIEWER";
  return { own, manage, export: review, annotate: review || role === "ROLE_ANNOTATOR" };
}

export const ROLES: readonly (readonly [Role, string])[] = [
  ["ROLE_OWNER", "owner: everything, also delete the project"],
  ["ROLE_MANAGER", "manager: everything else"],
  ["ROLE_REVIEWER", "reviewer: annotate, review, export"],
  ["ROLE_ANNOTATOR", "annotator: read and annotate"],
  ["ROLE_VIEWER", "viewer: read"],
];
