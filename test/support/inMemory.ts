/**
 * Which tests need no socket, no process and no time of their own: `npx vitest run --project memory` runs them.
 */

/** The folders of these tests. */
export const inMemory: ReadonlyArray<string> = ["protocol", "cgi", "connection", "server", "http", "client", "testing"]

/** Files in these folders that are compared with Node's own server, or are about sockets and processes. */
export const withSockets: ReadonlyMap<string, string> = new Map([
  ["http/FastCgiSendFile.test.ts", "runs on NodeHttpServer as well, where nobody sends the file in its place"],
  ["client/FastCgiGateway.test.ts", "a gateway is an HTTP server"],
  ["client/gatewaySuite.test.ts", "a gateway is an HTTP server"],
  ["client/phpFpm.test.ts", "php-fpm is a process"],
  ["client/phpFpm.ts", "php-fpm is a process"],
  ["client/fcgiwrap.test.ts", "fcgiwrap is a process"],
  ["client/target.ts", "a gateway is an HTTP server"]
])
