/**
 * A PHP site with everything that should not be shown: sources, copies, hidden files, uploads, and links that lead out.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** Says that it ran, and what it was told. Its source holds the word SOURCE, which its output does not. */
export const script = (name: string): string =>
  `<?php /* SOURCE */ header("Content-Type: text/plain"); echo json_encode(["ran" => "${name}", "script" => $_SERVER["SCRIPT_NAME"], ` +
  `"info" => bin2hex($_SERVER["PATH_INFO"] ?? ""), "uri" => bin2hex($_SERVER["REQUEST_URI"]), "query" => $_SERVER["QUERY_STRING"], ` +
  `"file" => $_SERVER["SCRIPT_FILENAME"], "root" => $_SERVER["DOCUMENT_ROOT"]]);\n`

const scripts = [
  "index.php",
  "x.php",
  "dir/index.php",
  "uploads/evil.php",
  "uploads/index.php",
  "data/evil.php",
  "d.php/inner.php"
]

const files: Readonly<Record<string, string>> = {
  "page.html": "<h1>page</h1>",
  "static/index.html": "<h1>index</h1>",
  "static/app.css": "body { color: red }",
  "static/.hidden/x.txt": "hidden",
  "empty/readme.txt": "readme",
  "uploads/pic.jpg": "pic",
  "d.php/style.css": "style",
  ".htaccess": "hidden",
  ".env": "hidden",
  ".git/config": "hidden",
  ".well-known/acme": "acme",
  "sp ace.txt": "space",
  "\u00fc.txt": "umlaut",
  "100%.txt": "percent",
  "semi;colon.txt": "semicolon",
  "q?.txt": "question",
  "h#.txt": "hash",
  "back\\slash.txt": "backslash",
  "plus+.txt": "plus",
  "trail.": "trail",
  "data/config.ini": "denied"
}

/** Files with the text of a script. */
const sources = [
  "x.php.jpg",
  "uploads/evil.php.jpg",
  "UPPER.PHP",
  "y.php~",
  "y.php.bak",
  "y.phtml",
  "y.inc",
  "y.php.",
  "y.php "
]

/** Makes the site in a folder, as `www`, and beside it what does not belong to it. */
export const make = (folder: string): string => {
  const root = Path.join(folder, "www")
  const write = (name: string, text: string) => {
    const path = Path.join(root, name)
    Fs.mkdirSync(Path.dirname(path), { recursive: true })
    Fs.writeFileSync(path, text)
  }
  for (const name of scripts) write(name, script(name))
  for (const [name, text] of Object.entries(files)) write(name, text)
  for (const name of sources) write(name, script(name))
  write("../outside/secret.txt", "secret")
  write("../outside/secret.php", script("secret.php"))
  Fs.symlinkSync("../outside/secret.txt", Path.join(root, "out.txt"))
  Fs.symlinkSync("../outside/secret.php", Path.join(root, "out.php"))
  Fs.symlinkSync("../outside", Path.join(root, "outdir"))
  Fs.symlinkSync("static", Path.join(root, "indir"))
  Fs.symlinkSync("x.php", Path.join(root, "innocent.txt"))
  Fs.symlinkSync(".git", Path.join(root, "gitlink"))
  Fs.symlinkSync("loop", Path.join(root, "loop"))
  Fs.symlinkSync("nowhere", Path.join(root, "dangling.txt"))
  return root
}
