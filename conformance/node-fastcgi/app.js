/**
 * The application that the conformance suite asks for (docs/conformance.md), on npm node-fastcgi 2.0.0.
 *
 * `node conformance/node-fastcgi/app.js /tmp/app.sock`
 *
 * The package has no way to set appStatus and none to answer without a header block, so /appstatus and /nothing are missing.
 */
import fastcgi from "node-fastcgi"
import * as fs from "node:fs"

const counters = { started: 0, ended: 0, aborted: 0 }

const text = (response, body, status = 200) => {
  response.writeHead(status, { "Content-Type": "text/plain" })
  response.end(body)
}

const target = (request) => {
  const [path, query = ""] = request.url.split("?")
  return { path, number: Number(/=(\d+)$/.exec(query)?.[1] ?? 0) }
}

/** How many bytes the stream brings. */
const sizeOf = (stream, done) => {
  let size = 0
  stream.on("data", (chunk) => size += chunk.length)
  stream.on("end", () => done(size))
}

// Strings of this package are UTF-8 decoded. A parameter of other bytes has lost them before it comes here.
const hex = (value) => Buffer.from(value, "utf8").toString("hex")

const respond = (request, response) => {
  const { number, path } = target(request)
  if (path === "/counters") {
    text(response, Object.entries(counters).map(([name, count]) => `${name} ${count}\n`).join(""))
    return
  }
  count(request, response)
  switch (path) {
    case "/echo":
      response.writeHead(200, { "Content-Type": "application/octet-stream" })
      response.flushHeaders()
      request.pipe(response)
      break
    case "/length":
      sizeOf(request, (size) => text(response, `${size}\n`))
      break
    case "/params": {
      const lines = Object.entries(request.cgiParams)
        .filter(([name]) => name.startsWith("X_"))
        .map(([name, value]) => `${hex(name)}=${hex(value)}\n`)
      text(response, lines.join(""))
      break
    }
    case "/sleep": {
      const timer = setTimeout(() => text(response, "slept\n"), number)
      request.on("aborted", () => clearTimeout(timer))
      break
    }
    case "/large":
      response.writeHead(200, { "Content-Type": "application/octet-stream" })
      large(request, response, number)
      break
    case "/stderr":
      response.stderr.write("to stderr\n")
      text(response, "done\n")
      break
    default:
      text(response, "not found\n", 404)
  }
}

/** Counts the handler: aborted when the package says so, ended when its response has been written. */
const count = (request, response) => {
  counters.started++
  let over = false
  const end = (how) => {
    if (!over) counters[how]++
    over = true
  }
  request.on("aborted", () => end("aborted"))
  response.on("finish", () => end("ended"))
}

const zeros = Buffer.alloc(64 * 1024)

const large = (request, response, left) => {
  const state = { gone: false }
  request.on("aborted", () => state.gone = true)
  const write = () => {
    while (!state.gone && left > 0) {
      const chunk = zeros.subarray(0, Math.min(left, zeros.length))
      left -= chunk.length
      if (!response.write(chunk)) {
        response.once("drain", write)
        return
      }
    }
    if (!state.gone) response.end()
  }
  write()
}

const authorize = (request, response) => {
  if (target(request).path === "/allow") {
    response.setVariable("X_CONFORMANCE", "yes")
    response.allow()
  } else {
    response.deny()
  }
}

const filter = (request, response) => {
  count(request, response)
  if (target(request).path === "/cached") {
    text(response, "from the cache\n")
    return
  }
  sizeOf(request, (stdin) => sizeOf(request.data, (data) => text(response, `${stdin} ${data}\n`)))
}

const path = process.argv[2]
if (path === undefined) {
  process.stderr.write("usage: node app.js PATH-OF-SOCKET\n")
  process.exit(2)
}
fs.rmSync(path, { force: true })
fastcgi.createServer(respond, authorize, filter).listen(path)
