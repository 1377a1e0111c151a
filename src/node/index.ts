/**
 * FastCGI on Node: `NodeFastCgi`, the one Layer that an Effect HTTP app swaps for `NodeHttpServer`, `NodeFastCgiRuntime`,
 * which runs it as a process, listening sockets, and the connector of the client.
 *
 * @since 0.1.0
 */
export * as NodeFastCgi from "./NodeFastCgi.ts"
export * as NodeFastCgiAccessLog from "./NodeFastCgiAccessLog.ts"
export * as NodeFastCgiApp from "./NodeFastCgiApp.ts"
export * as NodeFastCgiConnector from "./NodeFastCgiConnector.ts"
export * as NodeFastCgiListener from "./NodeFastCgiListener.ts"
export * as NodeFastCgiRuntime from "./NodeFastCgiRuntime.ts"
export * as NodeFastCgiStatus from "./NodeFastCgiStatus.ts"
export * as NodeFastCgiTransport from "./NodeFastCgiTransport.ts"
export * as NodeFastCgiWebSocket from "./NodeFastCgiWebSocket.ts"
export * as NodeFastCgiWorkers from "./NodeFastCgiWorkers.ts"
export * as NodeSystemd from "./NodeSystemd.ts"
