/**
 * The path of a request target as nginx resolves it: percent-encoding decoded, "." and ".." followed, slashes merged. What is
 * joined to a directory afterwards stays below it.
 */
import { utf8ToLatin1 } from "../../protocol/internal/text.ts"
import { decode } from "./percent.ts"

/** Why there is no path. */
export type PathProblem = "NotAPath" | "ControlCharacter" | "AboveRoot"

/** Resolves an encoded path to text with one character per byte. The decoded bytes may be of any encoding. */
export const resolvePath = (encoded: string): { readonly path: string } | PathProblem => {
  if (encoded.charCodeAt(0) !== slash) return "NotAPath"
  const path = decode(utf8ToLatin1(encoded))
  // NUL ends the name of a file for the operating system, but not for whoever looks at its extension.
  return path.includes("\0") ? "ControlCharacter" : followDots(path)
}

/** Whether decoded text stays where it is joined to a directory: empty, or a path without "..", and without NUL. */
export const staysBelow = (decoded: string): boolean =>
  decoded === "" || (decoded.charCodeAt(0) === slash && !decoded.includes("\0") && !dotDot.test(decoded))

const slash = 0x2f

const dotDot = /\/\.\.(?:\/|$)/

const followDots = (path: string): { readonly path: string } | PathProblem => {
  if (!path.includes("//") && !path.includes("/.")) return { path }
  const parts = path.split("/")
  const last = parts.length - 1
  const kept: Array<string> = []
  for (let i = 1; i <= last; i++) {
    const part = parts[i]
    if (part === "..") {
      if (kept.length === 0) return "AboveRoot"
      kept.pop()
    } else if (part !== "" && part !== ".") {
      kept.push(part)
      continue
    }
    // What ends in a slash, "." or ".." is a directory.
    if (i === last) kept.push("")
  }
  return { path: "/" + kept.join("/") }
}
