import { expired } from "../api/call";
import type { Plane, Tile } from "./geometry";

const KEPT = 400;
const AT_A_TIME = 8;

/** Pictures of tiles, fetched once; the last few hundred are kept. */
export class TileCache {
  private readonly pictures = new Map<string, HTMLImageElement>();
  private readonly failed = new Set<string>();
  private waiting: string[] = [];
  private loading = 0;

  /** `changed` is called when a picture has come. */
  constructor(private readonly changed: () => void) {}

  /** The picture when it is there; otherwise it is asked for. */
  get(url: string): HTMLImageElement | undefined {
    const picture = this.pictures.get(url);
    if (picture?.complete && picture.naturalWidth) {
      this.pictures.delete(url);
      this.pictures.set(url, picture);
      return picture;
    }
    if (!picture && !this.failed.has(url) && !this.waiting.includes(url)) this.waiting.push(url);
    return undefined;
  }

  /** Before a drawing: what was asked for and has not been begun is not wanted any more. */
  forget(): void {
    this.waiting = [];
  }

  /** After a drawing: begin with what it lacked. */
  fetch(): void {
    while (this.loading < AT_A_TIME) {
      const url = this.waiting.shift();
      if (url === undefined) return;
      this.begin(url);
    }
  }

  /** Whether pictures could not be had; asks for them again from now on. */
  retry(): boolean {
    const any = this.failed.size > 0;
    this.failed.clear();
    return any;
  }

  get broken(): boolean {
    return this.failed.size > 0;
  }

  get idle(): boolean {
    return this.loading === 0 && !this.waiting.length;
  }

  private begin(url: string): void {
    const picture = new Image();
    this.loading++;
    const over = (good: boolean) => {
      this.loading--;
      if (!good) {
        this.pictures.delete(url);
        this.failed.add(url);
        // A picture does not say why it failed.
        fetch(url, { method: "HEAD" }).then(
          (answer) => answer.status === 401 && expired.set(true),
          () => {},
        );
      }
      this.changed();
    };
    picture.onload = () => over(true);
    picture.onerror = () => over(false);
    picture.decoding = "async";
    picture.src = url;
    this.pictures.set(url, picture);
    for (const oldest of this.pictures.keys()) {
      if (this.pictures.size <= KEPT) break;
      this.pictures.delete(oldest);
    }
  }
}

/** Address of a tile of a volume or layer. */
export const tileUrl = (
  name: string,
  plane: Plane,
  tile: Tile,
  kind: "png" | "jpg",
  version: string,
): string =>
  `/tiles/${name}/${plane}/${tile.level}/${tile.index}/${tile.row}/${tile.column}.${kind}?v=${encodeURIComponent(version)}`;
