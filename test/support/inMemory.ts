/**
 * Which tests need no socket, no process and no time of their own: `npx vitest run --project memory` runs them.
 */

/** The folders of these tests. */
export const inMemory: ReadonlyArray<string> = [
  "protocol",
  "cgi",
  "connection",
  "server",
  "http",
  "client",
  "testing",
  "cli"
]

/** Files in these folders that `npm run test:quick` leaves out, and why they take long. */
export const slow: ReadonlyMap<string, string> = new Map([
  ["client/hostilePool.test.ts", "applications that do what they must not, each to its limit"],
  ["connection/stalls.test.ts", "weighs what is kept while nobody reads"],
  ["http/HttpServer.ways.test.ts", "all of HttpServer.test.ts once more, over streams and through a forwarder"],
  ["protocol/text.test.ts", "every three and four bytes at the edges of UTF-8"],
  ["server/disconnects.test.ts", "every way a connection can be lost, at every moment of a request"],
  ["server/hostile.test.ts", "megabytes of what is made to be dear"],
  ["server/memory.test.ts", "weighs the heap, after garbage collections"],
  ["server/model.test.ts", "random conversations, with a model of the server"]
])

/** Files in these folders that are compared with Node's own server, or are about sockets and processes. */
export const withSockets: ReadonlyMap<string, string> = new Map([
  ["http/FastCgiSendFile.test.ts", "runs on NodeHttpServer as well, where nobody sends the file in its place"],
  ["client/FastCgiGateway.test.ts", "a gateway is an HTTP server"],
  ["client/gatewaySuite.test.ts", "a gateway is an HTTP server"],
  ["client/phpFpm.test.ts", "php-fpm is a process"],
  ["client/phpPool.test.ts", "php-fpm is a process"],
  ["client/phpErrors.test.ts", "php-fpm is a process"],
  ["client/phpFpm.ts", "php-fpm is a process"],
  ["client/othersPool.test.ts", "the applications are processes"],
  ["client/fixtures/notes.ts", "is one of them"],
  ["client/fcgiwrap.test.ts", "fcgiwrap is a process"],
  ["client/target.ts", "a gateway is an HTTP server"],
  ["cli/request.test.ts", "runs the command"],
  ["cli/health.test.ts", "runs the command"],
  ["cli/docs.test.ts", "runs the command"],
  ["cli/terminal.test.ts", "runs the command"],
  ["cli/capture.test.ts", "runs the command"],
  ["cli/serving.test.ts", "runs the command"],
  ["cli/support/app.ts", "listens on a socket"],
  ["cli/support/command.ts", "runs the command"]
])
