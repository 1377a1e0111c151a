/**
 * An Express app as Express apps are: sessions, forms, uploads, files, streams. Nothing in it knows of FastCGI.
 */
import express from "express"
import multer from "multer"
import * as Crypto from "node:crypto"
import { fileURLToPath } from "node:url"

const sessions = new Map<string, { readonly user: string; visits: number }>()

const sessionOf = (request: express.Request) =>
  sessions.get(/(?:^|; )sid=([^;]*)/.exec(request.headers.cookie ?? "")?.[1] ?? "")

export const app = express()

app.use("/files", express.static(fileURLToPath(new URL("../board", import.meta.url))))
app.use(express.json(), express.urlencoded({ extended: false }), express.text())

app.get("/", (_request, response) => {
  response.send("Hello")
})
app.get("/html", (_request, response) => {
  response.type("html").send("<h1>Grüße</h1>")
})
app.get("/json", (_request, response) => {
  response.json({ hello: "world" })
})
app.get("/empty", (_request, response) => {
  response.status(204).end()
})
app.get("/status/:code", (request, response) => {
  response.status(Number(request.params.code)).send(`status ${request.params.code}`)
})
app.get("/redirect", (_request, response) => {
  response.redirect("/json?from=redirect")
})
app.all("/echo", (request, response) => {
  response.json({
    method: request.method,
    url: request.originalUrl,
    query: request.query,
    test: request.get("x-test"),
    type: request.get("content-type"),
    body: request.body
  })
})
app.get("/users/:id", (request, response) => {
  response.json({ id: request.params.id, path: request.path })
})
app.get("/ip", (request, response) => {
  response.json({ ip: request.ip, family: request.socket.remoteFamily, secure: request.secure })
})
app.get("/cookies", (_request, response) => {
  response.cookie("a", "1", { path: "/" }).cookie("b", "zwei ü", { httpOnly: true }).send("set")
})
app.get("/many", (_request, response) => {
  response.setHeader("Link", ["</a.css>; rel=preload", "</b.js>; rel=preload"])
  response.vary("Accept").vary("Origin").send("many")
})
app.post("/login", (request, response) => {
  const id = Crypto.randomUUID()
  sessions.set(id, { user: String(request.body.user), visits: 0 })
  response.cookie("sid", id, { httpOnly: true }).redirect(303, "/session")
})
app.get("/session", (request, response) => {
  const session = sessionOf(request)
  if (session === undefined) response.status(401).json({ error: "no session" })
  else response.json({ user: session.user, visits: ++session.visits })
})
app.post("/upload", (request, response, next) => {
  const hash = Crypto.createHash("sha256")
  let size = 0
  request.on("data", (chunk: Buffer) => {
    size += chunk.length
    hash.update(chunk)
  })
  request.on("error", next)
  request.on("end", () => response.json({ size, sha256: hash.digest("hex") }))
})
app.post("/form", multer().single("file"), (request, response) => {
  const { body, file } = request
  response.json({
    title: body.title,
    file: file && {
      name: Buffer.from(file.originalname, "latin1").toString(),
      type: file.mimetype,
      size: file.size,
      sha256: Crypto.createHash("sha256").update(file.buffer).digest("hex")
    }
  })
})
app.get("/large", (_request, response) => {
  response.type("bin").send(Buffer.alloc(1024 * 1024, "0123456789abcdef"))
})
app.get("/stream", async (_request, response) => {
  for (let i = 0; i < 5; i++) {
    response.write(`line ${i}\n`)
    await new Promise((resolve) => setImmediate(resolve))
  }
  response.end()
})
app.get("/events", (_request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" })
  response.flushHeaders()
  let sent = 0
  const timer = setInterval(() => {
    response.write(`id: ${++sent}\ndata: event ${sent}\n\n`)
    if (sent === 3) response.end()
  }, 5)
  response.on("close", () => clearInterval(timer))
})
app.get("/hints", (_request, response) => {
  response.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => response.send("hinted"))
})
app.get("/throws", () => {
  throw new Error("thrown")
})
app.get("/rejects", async () => {
  throw new Error("rejected")
})
// Errors in words that do not depend on where the app runs.
app.use(
  ((error, _request, response, next) => {
    if (response.headersSent) next(error)
    else response.status(error.status ?? 500).json({ error: error.message })
  }) satisfies express.ErrorRequestHandler
)
