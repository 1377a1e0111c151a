/**
 * The Hono app behind a web server: `node examples/hono/main.ts /run/app/app.sock`.
 */
import { NodeFastCgiApp } from "effect-fastcgi/node"
import { app } from "./app.ts"

const [path = "/run/app/app.sock"] = process.argv.slice(2)
if (path === "--help") {
  console.log("node examples/hono/main.ts [SOCKET], by default /run/app/app.sock; --help says this")
} else NodeFastCgiApp.serveFetch((request, environment) => app.fetch(request, environment), { path, mode: 0o660 })
