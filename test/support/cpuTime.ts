/**
 * The time that this process has had a processor, in milliseconds: what something costs, however busy the machine is.
 */
export const cpuTime = (): number => {
  const { system, user } = process.cpuUsage()
  return (user + system) / 1000
}
