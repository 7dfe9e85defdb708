// ioredis or iovalkey, with or without the option by which they listen to +switch-master:
//     ioredis.js LIBRARY detecting|plain HOST:PORT...
const [library, how, ...addresses] = process.argv.slice(2);
const Redis = require(library);

console.log("version", require(`${library}/package.json`).version);
const sentinels = addresses.map((each) => {
  const [host, port] = each.split(":");
  return { host, port: Number(port) };
});
const primary = new Redis({ sentinels, name: "mymaster", failoverDetector: how === "detecting" });
primary.on("error", (error) => console.log("error", error.message));

async function main() {
  for (let number = 1; ; number++) {
    try {
      await primary.rpush("numbers", number);
      console.log("written", number);
    } catch (error) {
      console.log("error", error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

main();
