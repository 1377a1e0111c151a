/**
 * Loaded into a server before its own code: when it is asked, it collects garbage and says what is in use then.
 */
const turn = () => new Promise((resolve) => setImmediate(resolve))

process.on("message", async () => {
  // What a first collection finalizes, a second one frees.
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await turn()
  }
  process.send?.(process.memoryUsage())
})
// It does not keep the server alive.
process.channel?.unref()
