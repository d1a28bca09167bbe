// Prints the decisions a second of 64 callers about 1,000 keys, each counted in a window of a second and in one of an hour.
'use strict'

const Redis = require('ioredis')
const { RateLimiterRedis, RateLimiterUnion } = require('rate-limiter-flexible')

const [address, seconds] = process.argv.slice(2)

async function main () {
  const storeClient = new Redis(address)
  const window = (keyPrefix, duration) => new RateLimiterRedis({ storeClient, keyPrefix, points: 1e9, duration })
  const limiter = new RateLimiterUnion(window('second', 1), window('hour', 3600))
  const end = Date.now() + seconds * 1000
  let decisions = 0
  const caller = async () => {
    while (Date.now() < end) await limiter.consume(`key-${decisions++ % 1000}`)
  }
  await Promise.all(Array.from({ length: 64 }, caller))
  console.log(Math.round(decisions / seconds))
  storeClient.disconnect()
}

main()
