/**
 * Effect's `HttpServer` over FastCGI.
 *
 * @since 0.1.0
 */
export * as FastCgiHttpServer from "./FastCgiHttpServer.ts"
export * as FastCgiLogger from "./FastCgiLogger.ts"
export * as FastCgiSendFile from "./FastCgiSendFile.ts"
export * as FastCgiUpgrade from "./FastCgiUpgrade.ts"
