/**
 * Times as php-fpm and Apache write them.
 */
import * as DateTime from "effect/DateTime"

/** Their short names. */
export const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

/** Two digits. */
export const two = (number: number): string => String(number).padStart(2, "0")

/** 28/Nov/2026:10:31:18 +0000, in UTC. `seconds` are those since 1970. */
export const commonTime = (seconds: number): string => {
  const { day, hour, minute, month, second, year } = DateTime.toPartsUtc(DateTime.makeUnsafe(seconds * 1000))
  return `${two(day)}/${months[month - 1]}/${year}:${two(hour)}:${two(minute)}:${two(second)} +0000`
}
