/**
 * The app of the benchmark for `node:http`, which nodeHttp.ts and serveNode.ts serve.
 */
import type * as Http from "node:http"
import { Readable } from "node:stream"
import { hello, large, pieces } from "./content.ts"

/** Answers the requests of the benchmark, without a framework. */
export const app = (request: Http.IncomingMessage, response: Http.ServerResponse): void => {
  const path = request.url!.split("?")[0]
  if (path === "/bench/upload") {
    let length = 0
    request.on("data", (chunk: Uint8Array) => {
      length += chunk.length
    })
    request.on("end", () => {
      response.writeHead(200, { "content-type": "text/plain" })
      response.end(String(length))
    })
  } else if (path === "/bench/download") {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": large.length })
    response.end(large)
  } else if (path === "/bench/stream") {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": large.length })
    Readable.from(pieces).pipe(response)
  } else if (path !== "/bench/wait") {
    response.writeHead(200, { "content-type": "text/plain", "content-length": hello.length })
    response.end(hello)
  }
}
