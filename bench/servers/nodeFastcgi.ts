/**
 * The npm package node-fastcgi 2.0.0, the FastCGI server that Node programs have used so far.
 */
import fastcgi from "node-fastcgi"
import { hello, large, socketPath } from "./content.ts"

fastcgi.createServer((request, response) => {
  const path = request.url.split("?")[0]
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
    response.end(Buffer.from(large.buffer))
  } else {
    response.writeHead(200, { "content-type": "text/plain", "content-length": hello.length })
    response.end(hello)
  }
}).listen(socketPath())
