import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

const PAGE = "../../services/gateway/biosegment_gateway/http/page";
// What the built files depend on. tests/unit/gateway/test_dashboard_files.py has the same list.
const SOURCES = [
  "index.html",
  "package-lock.json",
  "package.json",
  "public",
  "src",
  "tsconfig.json",
  "vite.config.ts",
];

function files(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => files(`${path}/${name}`));
}

/** Writes the sums of the sources beside what was made of them, as `sha256sum` does. */
function sums(): Plugin {
  let folder = "";
  return {
    name: "sums-of-sources",
    configResolved: (config) => {
      folder = resolve(config.root, config.build.outDir);
    },
    closeBundle: () => {
      const lines = SOURCES.flatMap(files)
        .sort()
        .map((path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${path}\n`);
      writeFileSync(join(folder, "source.sha256"), lines.join(""));
    },
  };
}

export default defineConfig({
  build: {
    outDir: PAGE,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  plugins: [sums()],
});
