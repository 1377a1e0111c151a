/**
 * The Koa app behind a web server: `node examples/koa/main.ts /run/app/app.sock`.
 */
import { NodeFastCgiApp } from "effect-fastcgi/node"
import { app } from "./app.ts"

const [path = "/run/app/app.sock"] = process.argv.slice(2)
if (path === "--help") console.log("node examples/koa/main.ts [SOCKET], by default /run/app/app.sock; --help says this")
else NodeFastCgiApp.serveNode(app.callback(), { path, mode: 0o660 })
