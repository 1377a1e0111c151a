/**
 * A request whose line is sent as it is, whatever it holds, and the answer up to the end of the connection.
 */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

export interface Answer {
  readonly status: number
  /** Names in lower case; of several lines the last. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** One character per byte, in and out. */
export const raw = (
  port: number,
  target: string,
  options: { readonly method?: string; readonly head?: string; readonly body?: string } = {}
) =>
  Effect.callback<Answer, Error>((resume) => {
    const socket = Net.connect({ host: "127.0.0.1", port })
    let text = ""
    socket.setEncoding("latin1")
    socket.on("data", (data) => text += String(data))
    socket.on("error", (error) => resume(Effect.fail(error)))
    socket.on("close", () => resume(Effect.succeed(parse(text))))
    socket.write(
      `${options.method ?? "GET"} ${target} HTTP/1.1\r\nHost: site.test\r\n${
        options.head ?? ""
      }Connection: close\r\n\r\n${options.body ?? ""}`,
      "latin1"
    )
    return Effect.sync(() => socket.destroy())
  })

const parse = (text: string): Answer => {
  const end = text.indexOf("\r\n\r\n")
  const [line, ...lines] = text.substring(0, end).split("\r\n")
  const headers = Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(":")
    return [line.substring(0, colon).toLowerCase(), line.substring(colon + 1).trim()]
  }))
  const body = text.substring(end + 4)
  return {
    status: Number(line?.split(" ")[1]),
    headers,
    body: headers["transfer-encoding"] === "chunked" ? unchunk(body) : body
  }
}

const unchunk = (body: string): string => {
  let text = ""
  for (let at = 0;;) {
    const end = body.indexOf("\r\n", at)
    const size = parseInt(body.substring(at, end), 16)
    if (!(size > 0)) return text
    text += body.substring(end + 2, end + 2 + size)
    at = end + 2 + size + 2
  }
}
