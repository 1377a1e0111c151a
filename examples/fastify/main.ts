/**
 * The Fastify app behind a web server: `node examples/fastify/main.ts /run/app/app.sock`. Fastify listens and closes itself.
 */
import { NodeFastCgiApp } from "effect-fastcgi/node"
import { makeApp } from "./app.ts"

const [path = "/run/app/app.sock"] = process.argv.slice(2)
if (path === "--help") {
  console.log("node examples/fastify/main.ts [SOCKET], by default /run/app/app.sock; --help says this")
} else {
  const app = makeApp((handler) => NodeFastCgiApp.createServer({ mode: 0o660 }, handler))
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void app.close())
  app.listen({ path }).catch((error) => {
    process.exitCode = 1
    console.error(error.message)
  })
}
