/** Logs in by password at a steady rate. */
import { setTimeout as sleep } from "node:timers/promises"
import { serveLoad } from "../LoadProcess.ts"
import { HttpConnection } from "./HttpConnection.ts"
import { jsonOf, prefix, register } from "./People.ts"

const password = "correct horse"

export interface LoginsInput {
  readonly url: string
  readonly perSecond: number
  readonly seconds: number
  readonly run: number
}

/** How many logins succeeded. */
serveLoad(async ({ perSecond, run, seconds, url }: LoginsInput): Promise<number> => {
  const [user] = await register(url, `returning${run}x`, 1, password)
  const body = JSON.stringify({ type: "m.login.password", user: user!.userId, password })
  const begin = performance.now()
  const login = async (index: number) => {
    await sleep(Math.max(0, begin + (index * 1_000) / perSecond - performance.now()))
    const connection = await HttpConnection.open(url)
    await jsonOf(connection.request("POST", `${prefix}/login`, undefined, body))
    connection.close()
  }
  const all = await Promise.all(Array.from({ length: perSecond * seconds }, (_, index) => login(index)))
  return all.length
})
