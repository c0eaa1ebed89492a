import { Store } from "../store";
import type { Methods } from "./messages";

/** A request: fields that are left out have their defaults. */
export type Input<T> = T extends (infer E)[]
  ? Input<E>[]
  : T extends object
    ? { [K in keyof T]?: Input<T[K]> }
    : T;

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

/** Nobody answered. */
export class ConnectionLost extends Error {
  constructor() {
    super("The gateway does not answer.");
  }
}

/** `lost` while the gateway does not answer, `back` each time that it does again. */
export const connection = new Store<{ lost: boolean; times: number }>({ lost: false, times: 0 });

/** Set when a request was refused because the session has ended. */
export const expired = new Store(false);

const PING_MS = 3000;

const MOST_TRIES = 3;
const LONGEST_WAIT_S = 5;

/** `fetch` of our own gateway that throws `Refusal` or `ConnectionLost`. */
export async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  let response = await answerTo(path, options);
  for (let tries = 1; tries < MOST_TRIES && response.status === 429; tries++) {
    // Too many requests at a time: nothing was done, and it is said when to try again.
    const waitS = Number(response.headers.get("retry-after") ?? Number.NaN);
    if (!(waitS <= LONGEST_WAIT_S)) break;
    await new Promise((resolve) => setTimeout(resolve, waitS * 1000));
    response = await answerTo(path, options);
  }
  if (!response.ok) throw refusal(response.status, await response.json().catch(() => ({})), path);
  return response;
}

async function answerTo(path: string, options: RequestInit): Promise<Response> {
  try {
    return await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    lose();
    throw new ConnectionLost();
  }
}

/** The error of an answer, which also tells whether the session is over. */
export function refusal(status: number, body: { reason?: string; message?: string }, path: string): Refusal {
  if (status === 401 && path !== "/auth/login" && path !== "/auth/self") expired.set(true);
  return new Refusal(status, body.reason ?? "", body.message || `The gateway answered ${status} to ${path}.`);
}

/** Send JSON, return the answer's JSON (undefined for an empty answer). */
export async function post(path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
  const response = await ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
  return response.status === 204 ? undefined : response.json();
}

/** One RPC of the platform, as JSON. */
export async function call<M extends keyof Methods>(
  method: M,
  request: Input<Methods[M]["request"]> = {} as Input<Methods[M]["request"]>,
  signal?: AbortSignal,
): Promise<Methods[M]["response"]> {
  return (await post(`/api/${method}`, request, signal)) as Methods[M]["response"];
}

/** All pages of a list; for lists that are short by nature. */
export async function all<T>(list: (pageToken: string) => Promise<[T[], string]>): Promise<T[]> {
  const found: T[] = [];
  let token = "";
  do {
    const [items, next] = await list(token);
    found.push(...items);
    token = next;
  } while (token);
  return found;
}

/** Words of an error for people. */
export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

export const requestId = (): string => {
  // crypto.randomUUID is there on https and loopback only, and labs begin with plain http.
  const random = crypto.getRandomValues(new Uint8Array(16));
  random[6] = ((random[6] ?? 0) & 0x0f) | 0x40;
  random[8] = ((random[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
};

/** Note that nobody answers, and look until somebody does. */
export function lose(): void {
  if (connection.value.lost) return;
  connection.set({ ...connection.value, lost: true });
  const look = async () => {
    try {
      if ((await fetch("/healthz", { cache: "no-store" })).ok) {
        connection.set({ lost: false, times: connection.value.times + 1 });
        return;
      }
    } catch {
      // still away
    }
    setTimeout(look, PING_MS);
  };
  setTimeout(look, PING_MS);
}
