/**
 * A Fastify app as Fastify apps are: sessions, forms, uploads, files, streams. Nothing in it knows of FastCGI, but for where the
 * server comes from.
 */
import multipart from "@fastify/multipart"
import fastify, { type FastifyRequest, type FastifyServerFactory } from "fastify"
import * as Crypto from "node:crypto"
import { createReadStream } from "node:fs"
import { Readable } from "node:stream"
import { fileURLToPath } from "node:url"

const sessions = new Map<string, { readonly user: string; visits: number }>()

const sessionOf = (request: FastifyRequest) =>
  sessions.get(/(?:^|; )sid=([^;]*)/.exec(request.headers.cookie ?? "")?.[1] ?? "")

const lines = async function*() {
  for (let i = 0; i < 5; i++) {
    yield `line ${i}\n`
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const events = async function*() {
  for (let i = 1; i <= 3; i++) yield `id: ${i}\ndata: event ${i}\n\n`
}

/** The app, on Node's own server unless another one is given. */
export const makeApp = (serverFactory?: FastifyServerFactory) => {
  const app = fastify({ bodyLimit: 64 * 1024 * 1024, ...serverFactory === undefined ? undefined : { serverFactory } })
  app.addContentTypeParser("application/x-www-form-urlencoded", { parseAs: "string" }, (_request, body, done) => {
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  })
  app.addContentTypeParser("application/octet-stream", (_request, payload, done) => done(null, payload))

  void app.register(multipart)

  app.get("/", () => "Hello")
  app.get("/html", (_request, reply) => reply.type("text/html; charset=utf-8").send("<h1>Grüße</h1>"))
  app.get("/json", () => ({ hello: "world" }))
  app.get("/empty", (_request, reply) => reply.code(204).send())
  app.get<{ Params: { code: string } }>(
    "/status/:code",
    (request, reply) => reply.code(Number(request.params.code)).send(`status ${request.params.code}`)
  )
  app.get("/redirect", (_request, reply) => reply.redirect("/json?from=redirect"))
  app.all("/echo", (request) => ({
    method: request.method,
    url: request.originalUrl,
    query: request.query,
    test: request.headers["x-test"],
    type: request.headers["content-type"],
    body: request.body
  }))
  app.get<{ Params: { id: string } }>("/users/:id", (request) => ({ id: request.params.id, path: request.url }))
  app.get("/ip", (request) => ({
    ip: request.ip,
    family: request.socket.remoteFamily,
    secure: request.protocol === "https"
  }))
  app.get("/cookies", (_request, reply) => reply.header("set-cookie", ["a=1; Path=/", "b=zwei; HttpOnly"]).send("set"))
  app.get(
    "/many",
    (_request, reply) =>
      reply.header("Link", ["</a.css>; rel=preload", "</b.js>; rel=preload"]).header("Vary", "Accept, Origin").send(
        "many"
      )
  )
  app.post<{ Body: { user: string } }>("/login", (request, reply) => {
    const id = Crypto.randomUUID()
    sessions.set(id, { user: request.body.user, visits: 0 })
    return reply.header("set-cookie", `sid=${id}; HttpOnly`).redirect("/session", 303)
  })
  app.get("/session", (request, reply) => {
    const session = sessionOf(request)
    return session === undefined
      ? reply.code(401).send({ error: "no session" })
      : reply.send({ user: session.user, visits: ++session.visits })
  })
  // oxlint-disable-next-line oxc/no-async-endpoint-handlers -- Fastify waits for its handlers
  app.post<{ Body: Readable }>("/upload", async (request) => {
    const hash = Crypto.createHash("sha256")
    let size = 0
    for await (const chunk of request.body) {
      size += chunk.length
      hash.update(chunk)
    }
    return { size, sha256: hash.digest("hex") }
  })
  // oxlint-disable-next-line oxc/no-async-endpoint-handlers -- Fastify waits for its handlers
  app.post("/form", async (request) => {
    const form: { title?: unknown; file?: unknown } = {}
    for await (const part of request.parts()) {
      if (part.type === "field") form.title = part.value
      else {
        const content = await part.toBuffer()
        form.file = {
          name: part.filename,
          type: part.mimetype,
          size: content.length,
          sha256: Crypto.createHash("sha256").update(content).digest("hex")
        }
      }
    }
    return form
  })
  app.get(
    "/large",
    (_request, reply) => reply.type("application/octet-stream").send(Buffer.alloc(1024 * 1024, "0123456789abcdef"))
  )
  app.get("/stream", (_request, reply) => reply.type("text/plain").send(Readable.from(lines())))
  app.get(
    "/events",
    (_request, reply) =>
      reply.type("text/event-stream").header("Cache-Control", "no-cache").send(Readable.from(events()))
  )
  app.get("/files/page.css", (_request, reply) =>
    reply.type("text/css; charset=utf-8").send(
      createReadStream(fileURLToPath(new URL("../board/page.css", import.meta.url)))
    ))
  app.get("/hints", (_request, reply) => {
    reply.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => void reply.send("hinted"))
    return reply
  })
  app.get("/throws", () => {
    throw new Error("thrown")
  })
  app.get("/rejects", () => Promise.reject(new Error("rejected")))
  return app
}
