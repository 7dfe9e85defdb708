// node-redis.
const { createSentinel } = require("redis");

console.log("version", require("redis/package.json").version);
const sentinelRootNodes = process.argv.slice(2).map((each) => {
  const [host, port] = each.split(":");
  return { host, port: Number(port) };
});
const sentinel = createSentinel({ name: "mymaster", sentinelRootNodes });
sentinel.on("error", (error) => console.log("error", error.message));

async function main() {
  await sentinel.connect();
  for (let number = 1; ; number++) {
    try {
      await sentinel.rPush("numbers", String(number));
      console.log("written", number);
    } catch (error) {
      console.log("error", error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

main();
