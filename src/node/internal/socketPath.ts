/**
 * What the operating system takes as the path of a UNIX socket, to listen on or to connect to. Node passes on what it does not
 * take as EINVAL, and connects to a port of this host when the path is empty.
 */

/** sun_path holds this many bytes beside its NUL: 108 on Linux, 104 on macOS and the BSDs. */
export const maxPathSize = process.platform === "linux" || process.platform === "android" ? 107 : 103

/** Says what is wrong with the path, or returns `undefined`. */
export const pathProblem = (
  path: string
): { readonly reason: "TooLong" | "Empty" | "HoldsNul"; readonly message: string } | undefined => {
  const size = Buffer.byteLength(path)
  return size > maxPathSize
    ? {
      reason: "TooLong",
      message: `the path has ${size} bytes, and a UNIX socket's may have at most ${maxPathSize}.`
    }
    : path === ""
    ? { reason: "Empty", message: "the socket path is empty." }
    : path.indexOf("\0", 1) !== -1
    ? { reason: "HoldsNul", message: "the path contains a NUL byte." }
    : undefined
}
