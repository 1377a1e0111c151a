/**
 * A Koa app as Koa apps are: sessions, forms, uploads, files, streams. Nothing in it knows of FastCGI.
 */
import multer from "@koa/multer"
import Koa from "koa"
import * as Crypto from "node:crypto"
import { createReadStream } from "node:fs"
import { PassThrough } from "node:stream"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"

const sessions = new Map<string, { readonly user: string; visits: number }>()

const pieces = async function*() {
  for (let i = 0; i < 5; i++) {
    yield `line ${i}\n`
    await new Promise((resolve) => setImmediate(resolve))
  }
}

export const app = new Koa()
app.silent = true

const events = (ctx: Koa.Context) => {
  ctx.type = "text/event-stream"
  ctx.set("Cache-Control", "no-cache")
  const stream = new PassThrough()
  ctx.body = stream
  let sent = 0
  const timer = setInterval(() => {
    stream.write(`id: ${++sent}\ndata: event ${sent}\n\n`)
    if (sent === 3) stream.end()
  }, 5)
  ctx.res.on("close", () => clearInterval(timer))
}

const upload = async (ctx: Koa.Context) => {
  const hash = Crypto.createHash("sha256")
  let size = 0
  for await (const chunk of ctx.req) {
    size += chunk.length
    hash.update(chunk)
  }
  ctx.body = { size, sha256: hash.digest("hex") }
}

const receiveForm = multer().single("file")

const form = async (ctx: Koa.Context) => {
  await receiveForm(ctx, () => Promise.resolve())
  // multer puts the body there, which its types do not say.
  const { body, file } = ctx.request as Koa.Request & { readonly body?: Readonly<Record<string, string>> }
  ctx.body = {
    title: body?.title,
    file: file && {
      name: Buffer.from(file.originalname, "latin1").toString(),
      type: file.mimetype,
      size: file.size,
      sha256: Crypto.createHash("sha256").update(file.buffer).digest("hex")
    }
  }
}

const routes: Record<string, (ctx: Koa.Context) => unknown> = {
  "/": (ctx) => ctx.body = "Hello",
  "/html": (ctx) => ctx.body = "<h1>Grüße</h1>",
  "/json": (ctx) => ctx.body = { hello: "world" },
  "/empty": (ctx) => ctx.status = 204,
  "/redirect": (ctx) => ctx.redirect("/json?from=redirect"),
  "/echo": async (ctx) =>
    ctx.body = {
      method: ctx.method,
      url: ctx.originalUrl,
      query: ctx.query,
      test: ctx.get("x-test"),
      type: ctx.get("content-type"),
      body: await text(ctx.req)
    },
  "/ip": (ctx) => ctx.body = { ip: ctx.ip, family: ctx.socket.remoteFamily, secure: ctx.secure },
  "/cookies": (ctx) => {
    ctx.cookies.set("a", "1", { httpOnly: false })
    ctx.cookies.set("b", "zwei", { httpOnly: true })
    ctx.body = "set"
  },
  "/many": (ctx) => {
    ctx.set("Link", ["</a.css>; rel=preload", "</b.js>; rel=preload"])
    ctx.vary("Accept")
    ctx.vary("Origin")
    ctx.body = "many"
  },
  "/login": async (ctx) => {
    const id = Crypto.randomUUID()
    sessions.set(id, { user: new URLSearchParams(await text(ctx.req)).get("user") ?? "", visits: 0 })
    ctx.cookies.set("sid", id)
    ctx.status = 303
    ctx.redirect("/session")
  },
  "/session": (ctx) => {
    const session = sessions.get(ctx.cookies.get("sid") ?? "")
    ctx.status = session === undefined ? 401 : 200
    ctx.body = session === undefined ? { error: "no session" } : { user: session.user, visits: ++session.visits }
  },
  "/upload": upload,
  "/form": form,
  "/large": (ctx) => ctx.body = Buffer.alloc(1024 * 1024, "0123456789abcdef"),
  "/stream": (ctx) => {
    const stream = new PassThrough()
    ctx.body = stream
    const send = async () => {
      for await (const piece of pieces()) stream.write(piece)
      stream.end()
    }
    void send()
  },
  "/events": events,
  "/files/page.css": (ctx) => {
    ctx.type = "css"
    ctx.body = createReadStream(fileURLToPath(new URL("../board/page.css", import.meta.url)))
  },
  "/throws": (ctx) => ctx.throw(500, "thrown"),
  "/rejects": () => Promise.reject(new Error("rejected"))
}

app.use(async (ctx) => {
  const route = routes[ctx.path]
  if (route !== undefined) return route(ctx)
  const [, name, value] = /^\/(status|users)\/([^/]+)$/.exec(ctx.path) ?? []
  if (name === "status") {
    ctx.status = Number(value)
    ctx.body = `status ${value}`
  } else if (name === "users") {
    ctx.body = { id: decodeURIComponent(value!), path: ctx.path }
  }
})
