import { ConnectionLost, call, connection, lose, Refusal, refusal, requestId } from "./call";

/** How far a file is on its way. */
export interface Sending {
  size: number;
  sent: number;
  /** Estimated seconds to the end, 0 when not known. */
  leftS: number;
  /** The gateway does not answer; it goes on by itself. */
  waiting: boolean;
}

const PIECE_BYTES = 8 << 20;
const MIN_ELAPSED_MS = 1000;

/** Send a file in pieces and return the name of the upload. A broken connection is waited for, and resumed. */
export async function sendFile(
  project: string,
  file: File,
  report: (sending: Sending) => void,
  signal: AbortSignal,
): Promise<string> {
  const { upload } = await call("DatastoreService/CreateUpload", {
    parent: project,
    requestId: requestId(),
    upload: { fileName: file.name, sizeBytes: String(file.size) },
  });
  const name = upload?.name ?? "";
  const speed = speedometer(file.size);
  try {
    let sent = 0;
    while (sent < file.size) {
      report(speed(sent));
      try {
        sent = await sendPiece(name, file, sent, (now) => report(speed(now)), signal);
      } catch (cause) {
        sent = await resumed(name, cause, () => report({ ...speed(sent), waiting: true }), signal);
      }
    }
  } catch (cause) {
    // What nobody goes on with takes up room; if this fails too it expires.
    call("DatastoreService/DeleteUpload", { name }).catch(() => {});
    throw cause;
  }
  return name;
}

/** Where to go on after an error, once the gateway is there again; errors that will not pass are thrown. */
async function resumed(
  name: string,
  cause: unknown,
  report: () => void,
  signal: AbortSignal,
): Promise<number> {
  const mayPass =
    cause instanceof ConnectionLost ||
    (cause instanceof Refusal && (cause.status >= 500 || cause.reason === "OFFSET_MISMATCH"));
  if (!mayPass || signal.aborted) throw cause;
  report();
  if (cause instanceof ConnectionLost) await isBack(signal);
  const { upload } = await call("DatastoreService/GetUpload", { name }, signal);
  return Number(upload?.receivedBytes ?? 0);
}

function isBack(signal: AbortSignal): Promise<void> {
  if (!connection.value.lost) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const end = connection.follow(({ lost }) => {
      if (lost) return;
      end();
      resolve();
    });
    signal.addEventListener("abort", () => {
      end();
      reject(stopped());
    });
  });
}

const stopped = (): Error => new Error("Sending was stopped.");

/** Send one piece; returns how much of the file the server has. */
async function sendPiece(
  name: string,
  file: File,
  offset: number,
  report: (sent: number) => void,
  signal: AbortSignal,
): Promise<number> {
  const piece = file.slice(offset, offset + PIECE_BYTES);
  const digest = await digestOf(piece);
  if (signal.aborted) throw stopped();
  const path = `/api/uploads/${name}?offset=${offset}`;
  return new Promise((resolve, reject) => {
    // fetch does not say how much of a body has left.
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    request.open("PUT", path);
    request.responseType = "json";
    request.setRequestHeader("content-type", "application/octet-stream");
    if (digest) request.setRequestHeader("content-digest", `sha-256=:${digest}:`);
    request.upload.onprogress = (event) => report(offset + event.loaded);
    request.onload = () => {
      if (request.status < 300) resolve(offset + piece.size);
      else reject(refusal(request.status, request.response ?? {}, path));
    };
    request.onerror = () => {
      lose();
      reject(new ConnectionLost());
    };
    request.onabort = () => reject(stopped());
    request.onloadend = () => signal.removeEventListener("abort", abort);
    request.send(piece);
  });
}

/** SHA-256 in base64; '' where the browser has none: it keeps it to https and this machine. */
async function digestOf(piece: Blob): Promise<string> {
  if (!crypto.subtle) return "";
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", await piece.arrayBuffer()));
  return btoa(String.fromCharCode(...sum));
}

function speedometer(size: number): (sent: number) => Sending {
  const begun = performance.now();
  return (sent) => {
    const elapsed = performance.now() - begun;
    const leftS = elapsed > MIN_ELAPSED_MS && sent ? ((size - sent) / sent) * (elapsed / 1000) : 0;
    return { size, sent, leftS, waiting: false };
  };
}
