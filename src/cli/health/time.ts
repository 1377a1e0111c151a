/**
 * How long something has been running, for a person.
 */

/** Seconds as the two largest units: "5 min 48 s". */
export const elapsed = (seconds: number): string => {
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]] as const
  const at = parts.findIndex(([size]) => seconds >= size)
  if (at === -1) return "0 s"
  return parts.slice(at, at + 2).map(([size, unit], i) => {
    const rest = i === 0 ? seconds : seconds % parts[at]![0]
    return `${Math.floor(rest / size)} ${unit}`
  }).join(" ")
}
