/** Registers users. */
import { serveLoad } from "../LoadProcess.ts"
import { register } from "./People.ts"

export interface RegisterInput {
  readonly url: string
  readonly users: number
}

/** Returns their tokens. */
serveLoad(async ({ url, users }: RegisterInput): Promise<ReadonlyArray<string>> => {
  const people = await register(url, "idle", users)
  return people.map(({ token }) => token)
})
