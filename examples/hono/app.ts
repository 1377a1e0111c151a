/**
 * A Hono app as Hono apps are: sessions, forms, uploads, files, streams. Nothing in it knows of FastCGI.
 */
import { getConnInfo } from "@hono/node-server/conninfo"
import { serveStatic } from "@hono/node-server/serve-static"
import { Hono } from "hono"
import { getCookie, setCookie } from "hono/cookie"
import { stream, streamSSE } from "hono/streaming"
import * as Crypto from "node:crypto"
import { fileURLToPath } from "node:url"

const sessions = new Map<string, { readonly user: string; visits: number }>()

export const app = new Hono()

app.use(
  "/files/*",
  serveStatic({
    root: fileURLToPath(new URL("../board", import.meta.url)),
    rewriteRequestPath: (path) => path.replace(/^\/files/, "")
  })
)
app.get("/", (c) => c.text("Hello"))
app.get("/html", (c) => c.html("<h1>Grüße</h1>"))
app.get("/json", (c) => c.json({ hello: "world" }))
app.get("/empty", (c) => c.body(null, 204))
app.get("/status/:code", (c) => c.text(`status ${c.req.param("code")}`, Number(c.req.param("code")) as 200))
app.get("/redirect", (c) => c.redirect("/json?from=redirect"))
app.all("/echo", async (c) => {
  const url = new URL(c.req.url)
  return c.json({
    method: c.req.method,
    url: url.pathname + url.search,
    query: c.req.query(),
    test: c.req.header("x-test"),
    type: c.req.header("content-type"),
    body: await c.req.text()
  })
})
app.get("/users/:id", (c) => c.json({ id: c.req.param("id"), path: c.req.path }))
app.get("/ip", (c) => {
  const { address, addressType } = getConnInfo(c).remote
  return c.json({ ip: address, family: addressType, secure: c.req.url.startsWith("https:") })
})
app.get("/cookies", (c) => {
  setCookie(c, "a", "1")
  setCookie(c, "b", "zwei ü", { httpOnly: true })
  return c.text("set")
})
app.get("/many", (c) => {
  c.header("Link", "</a.css>; rel=preload", { append: true })
  c.header("Link", "</b.js>; rel=preload", { append: true })
  c.header("Vary", "Accept, Origin")
  return c.text("many")
})
app.post("/login", async (c) => {
  const id = Crypto.randomUUID()
  const { user } = await c.req.parseBody()
  sessions.set(id, { user: String(user), visits: 0 })
  setCookie(c, "sid", id, { httpOnly: true })
  return c.redirect("/session", 303)
})
app.get("/session", (c) => {
  const session = sessions.get(getCookie(c, "sid") ?? "")
  return session === undefined
    ? c.json({ error: "no session" }, 401)
    : c.json({ user: session.user, visits: ++session.visits })
})
app.post("/upload", async (c) => {
  const hash = Crypto.createHash("sha256")
  let size = 0
  for await (const chunk of c.req.raw.body ?? []) {
    size += chunk.length
    hash.update(chunk)
  }
  return c.json({ size, sha256: hash.digest("hex") })
})
app.post("/form", async (c) => {
  const { file, title } = await c.req.parseBody()
  if (!(file instanceof File)) return c.json({ title })
  const content = new Uint8Array(await file.arrayBuffer())
  return c.json({
    title,
    file: {
      name: file.name,
      type: file.type,
      size: file.size,
      sha256: Crypto.createHash("sha256").update(content).digest("hex")
    }
  })
})
app.get("/large", (c) => c.body(Buffer.alloc(1024 * 1024, "0123456789abcdef")))
app.get("/stream", (c) =>
  stream(c, async (stream) => {
    for (let i = 0; i < 5; i++) await stream.write(`line ${i}\n`)
  }))
app.get("/events", (c) =>
  streamSSE(c, async (stream) => {
    for (let i = 1; i <= 3; i++) await stream.writeSSE({ id: String(i), data: `event ${i}` })
  }))
app.get("/throws", () => {
  throw new Error("thrown")
})
app.get("/rejects", async () => {
  throw new Error("rejected")
})
app.onError((error, c) => c.json({ error: error.message }, 500))
