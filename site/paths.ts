/**
 * Where things are: the project, and the folders that `npm run site` writes.
 */
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/** The folder of package.json, absolute. */
export const root: string = Path.resolve(fileURLToPath(new URL("..", import.meta.url)))

/** The Markdown that VitePress reads, made of docs/, of the files they lead to and of the docstrings. */
export const pages: string = Path.join(root, ".site/pages")

/** What the compiler says of `src`, a `.d.ts` for every module. */
export const declarations: string = Path.join(root, ".site/types")

/** The site. */
export const html: string = Path.join(root, ".site/html")
