/**
 * What a URL asks of a PHP site: which script, file or directory would answer it, if it is there. Text in, text out: there is no
 * file system here. Whatever is in doubt is `Refused`.
 */
import { decodeUtf8, latin1Bytes, utf8ToLatin1 } from "../../protocol/internal/text.ts"
import { resolvePath } from "./path.ts"
import { encodePath } from "./percent.ts"

/** How a site is laid out. Paths are decoded and begin with "/", and end with none. */
export interface Rules {
  /** Where the site begins: "" or a path. */
  readonly prefix: string
  /** Names of files that stand for their directory, in order. */
  readonly index: ReadonlyArray<string>
  /** The script that answers where there is no file. */
  readonly frontController: string | undefined
  /** What names of scripts end in, such as ".php". */
  readonly extensions: ReadonlyArray<string>
  /** Paths that are not there for anybody, with all that is below. */
  readonly deny: ReadonlyArray<string>
  /** Paths below which no script runs. */
  readonly noScripts: ReadonlyArray<string>
}

/** A script that runs, if it is a file. */
export interface Script {
  readonly _tag: "Script"
  /** Its path below the root: SCRIPT_NAME without the prefix. */
  readonly path: string
  /** PATH_INFO: bytes where it is no UTF-8. */
  readonly pathInfo: string | Uint8Array
}

/** A file that is shown, if it is one. */
export interface File {
  readonly _tag: "File"
  readonly path: string
}

export type Plan =
  | Script
  /** A file that is shown if it is one; a directory, whose URL has a slash, if it is one; or `otherwise`. */
  | { readonly _tag: "Path"; readonly path: string; readonly otherwise: Script | undefined }
  /** The first of `index` that is a file, if `path` is a directory; or `otherwise`. */
  | {
    readonly _tag: "Directory"
    readonly path: string
    readonly index: ReadonlyArray<Script | File>
    readonly otherwise: Script | undefined
  }
  /** No name that a file of the site may have, so `otherwise`. */
  | { readonly _tag: "Missing"; readonly otherwise: Script | undefined }
  /** The site itself, without the slash behind its prefix. */
  | { readonly _tag: "Prefix" }
  /** No such thing, or not for anybody. */
  | { readonly _tag: "Refused" }
  /** No path that has a meaning: 400. */
  | { readonly _tag: "Invalid" }

/**
 * Reads the path of a URL, percent-encoded and without its query.
 *
 * It is resolved as nginx does it: decoded to bytes, "." and ".." followed, slashes merged. The first segment whose name has the
 * extension of a script is the script, and what follows is PATH_INFO, whatever is there: as with
 * `location ~ [^/]\.php(/|$)` and `fastcgi_split_path_info ^(.+?\.php)(/.*)$`.
 */
export const plan = (encoded: string, rules: Rules): Plan => {
  if (hasInvalidEscape(encoded)) return invalid
  const resolved = resolvePath(encoded)
  if (typeof resolved === "string") return invalid
  const bytes = belowPrefix(resolved.path, rules.prefix)
  if (bytes === undefined) return refused
  if (bytes === "") return { _tag: "Prefix" }
  const path = toText(bytes)
  if (controlCharacter.test(bytes) || isHidden(bytes) || isBelow(path ?? bytes, rules.deny)) return refused
  const end = endOfScript(bytes, rules.extensions)
  if (end !== -1) return script(toText(bytes.substring(0, end)), bytes.substring(end), rules)
  const otherwise: Script | undefined = rules.frontController === undefined
    ? undefined
    : { _tag: "Script", path: rules.frontController, pathInfo: "" }
  if (path === undefined || path.includes("\\")) return { _tag: "Missing", otherwise }
  if (!path.endsWith("/")) return { _tag: "Path", path, otherwise }
  const index = rules.index.map((name): Script | File => {
    const file = path + name
    return hasExtension(name, rules.extensions) && !isBelow(file, rules.noScripts)
      ? { _tag: "Script", path: file, pathInfo: "" }
      : { _tag: "File", path: file }
  })
  return { _tag: "Directory", path, index, otherwise }
}

/** The path of a URL as text; `undefined` where it is no path, or none that a file may have. */
export const resolve = (encoded: string): string | undefined => {
  if (hasInvalidEscape(encoded)) return undefined
  const resolved = resolvePath(encoded)
  return typeof resolved === "string" || controlCharacter.test(resolved.path) ? undefined : toText(resolved.path)
}

/** Text with one character per byte as what it is in UTF-8, or `undefined`. */
export const toText = (bytes: string): string | undefined => decodeUtf8(latin1Bytes(bytes))

/** The encoded URL of a path of the site. It begins with one slash, so it is none of another host. */
export const toUrl = (path: string, prefix: string): string => encodePath(utf8ToLatin1(prefix + path))

/** Whether a part of the path is a hidden file or directory. "/.well-known" (RFC 8615) is none. */
export const isHidden = (path: string): boolean =>
  path.includes("/.") && path.split("/").some((name, i) => name.startsWith(".") && !(i === 1 && name === ".well-known"))

/** Whether a path is, or is below, one of others. Capitals make no difference: they may make none for the file system. */
export const isBelow = (path: string, others: ReadonlyArray<string>): boolean => {
  if (others.length === 0) return false
  const lower = path.toLowerCase()
  return others.some((other) => {
    const at = other.toLowerCase()
    return lower.startsWith(at) && (lower.length === at.length || lower.charCodeAt(at.length) === slash)
  })
}

/**
 * Whether a file is the source of a script, or a copy of one that an editor or a person has left, by a name of any case. Dots and
 * spaces at the end are no part of a name on some file systems.
 */
export const isSource = (path: string, extensions: ReadonlyArray<string>): boolean => {
  let name = path.substring(path.lastIndexOf("/") + 1).toLowerCase()
  while (!source.test(name) && !extensions.some((extension) => name.endsWith(extension.toLowerCase()))) {
    const left = withoutCopyMark(name)
    if (left === name) return false
    name = left
  }
  return true
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const refused: Plan = { _tag: "Refused" }
const invalid: Plan = { _tag: "Invalid" }

const slash = 0x2f

// nginx answers 400 to it.
const hasInvalidEscape = (encoded: string): boolean =>
  encoded.includes("%") && encoded.split("%").some((text, i) => i > 0 && !twoDigits.test(text))

const twoDigits = /^[0-9A-Fa-f]{2}/

// oxlint-disable-next-line no-control-regex -- control characters are the point
const controlCharacter = /[\x00-\x1f\x7f]/

// Of a path with one character per byte: what is behind the prefix, "" for the prefix itself.
const belowPrefix = (bytes: string, prefix: string): string | undefined => {
  if (prefix === "") return bytes
  const before = utf8ToLatin1(prefix)
  return bytes.startsWith(before) && (bytes.length === before.length || bytes.charCodeAt(before.length) === slash)
    ? bytes.substring(before.length)
    : undefined
}

// A name is more than its extension.
const hasExtension = (name: string, extensions: ReadonlyArray<string>): boolean =>
  extensions.some((extension) => name.length > extension.length && name.endsWith(extension))

// Where the first segment that names a script ends; -1 when there is none.
const endOfScript = (path: string, extensions: ReadonlyArray<string>): number => {
  for (let start = 1; start <= path.length;) {
    const next = path.indexOf("/", start)
    const end = next === -1 ? path.length : next
    if (hasExtension(path.substring(start, end), extensions)) return end
    start = end + 1
  }
  return -1
}

const script = (path: string | undefined, pathInfo: string, rules: Rules): Plan =>
  path === undefined || path.includes("\\") || isBelow(path, rules.noScripts)
    ? refused
    : { _tag: "Script", path, pathInfo: toText(pathInfo) ?? latin1Bytes(pathInfo) }

// What PHP files have ever been called, and what they include.
const source = /\.(?:php[0-9]?|phtml|pht|phps|phar|inc)$/

const copyMarks = ["~", "#", ".", " "].concat(
  ["bak", "backup", "old", "orig", "save", "swp", "swo", "tmp", "dist", "copy"].flatMap((
    mark
  ) => ["." + mark, "_" + mark])
)

const withoutCopyMark = (name: string): string => {
  const mark = copyMarks.find((mark) => name.endsWith(mark))
  return mark === undefined ? name : name.substring(0, name.length - mark.length)
}
