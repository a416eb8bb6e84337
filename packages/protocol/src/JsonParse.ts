/**
 * `JSON.parse` without a fault of V8: after it has read an object with a key such as `\`, it reads another key with an
 * escape in the same place as that one (https://github.com/nodejs/node/issues/63785). One user could so change what
 * another's events say. `HomeServer.layer` and the programs call `mendJsonParse` first.
 *
 * Most texts have no key with an escape, and are read as ever. The others are read again, value by value.
 */

type Container = Array<unknown> | Record<string, unknown>

const native = JSON.parse

const quote = 0x22
const backslash = 0x5c

/** The position after the closing quote of the string in which `start` lies. */
const endOfString = (text: string, start: number): number => {
  let at = start
  for (;;) {
    const code = text.charCodeAt(at)
    if (code === quote) return at + 1
    at += code === backslash ? 2 : 1
  }
}

const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

/** Of a text that is JSON: every backslash is in a string, which is a key if a colon follows. */
const hasEscapedKey = (text: string): boolean => {
  let at = text.indexOf("\\")
  while (at !== -1) {
    let end = endOfString(text, at)
    while (isSpace(text.charCodeAt(end))) end++
    if (text[end] === ":") return true
    at = text.indexOf("\\", end)
  }
  return false
}

/** As an own member, whatever it is called. */
const setMember = (object: Record<string, unknown>, key: string, value: unknown): void => {
  if (key !== "__proto__") object[key] = value
  else Object.defineProperty(object, key, { value, configurable: true, enumerable: true, writable: true })
}

/** The state of reading a valid JSON text: the open arrays and objects, and the key of each object whose value is next. */
class Reading {
  root: unknown
  readonly open: Array<Container> = []
  readonly keys: Array<string | undefined> = []

  add(value: unknown): void {
    const container = this.open.at(-1)
    const key = this.keys.at(-1)
    if (container === undefined) this.root = value
    else if (Array.isArray(container)) container.push(value)
    else if (key === undefined) this.keys[this.keys.length - 1] = value as string
    else {
      setMember(container, key, value)
      this.keys[this.keys.length - 1] = undefined
    }
  }

  enter(container: Container): void {
    this.add(container)
    this.open.push(container)
    this.keys.push(undefined)
  }

  leave(): void {
    this.open.pop()
    this.keys.pop()
  }
}

const scalar = /[^\s,:{}[\]"]+/y

/** The value of a number, `true`, `false` or `null`. `read` is `JSON.parse`. */
export type ReadScalar = (text: string, read: (text: string) => unknown) => unknown

const readPlainly: ReadScalar = (text, read) => read(text)

/** Reads a text that is known to be JSON, its scalars by `readScalar`. No key is read as part of an object. */
export const readJson = (text: string, readScalar: ReadScalar): unknown => {
  const reading = new Reading()
  let at = 0
  while (at < text.length) {
    const start = at++
    switch (text[start]) {
      case "{":
        reading.enter({})
        break
      case "[":
        reading.enter([])
        break
      case "}":
      case "]":
        reading.leave()
        break
      case '"':
        at = endOfString(text, at)
        reading.add(native(text.slice(start, at)))
        break
      default:
        scalar.lastIndex = start
        if (scalar.test(text)) {
          at = scalar.lastIndex
          reading.add(readScalar(text.slice(start, at), native))
        }
    }
  }
  return reading.root
}

/** As `JSON.parse`. */
export const parse = (text: string, reviver?: Parameters<typeof JSON.parse>[1]): unknown => {
  const value = native(text, reviver)
  const isPlain = typeof text !== "string" || reviver !== undefined || !text.includes("\\")
  return isPlain || !hasEscapedKey(text) ? value : readJson(text, readPlainly)
}

const isFaulty = (): boolean => {
  native('{"greenroom":0,"\\\\":0}')
  return Object.keys(native('{"greenroom":0,"\\"":0}'))[1] !== '"'
}

/** Puts `parse` in the place of `JSON.parse` for the whole process, where the fault is there. */
export const mendJsonParse = (): void => {
  if (JSON.parse === native && isFaulty()) JSON.parse = parse
}
