/// The plugin that container runtimes start for each call: a thin client of the node process.
///
/// It reads the environment and standard input, opens the container's namespace, hands both to the node process over a unix socket and
/// prints what comes back. It is static and has neither Foundation nor tasks, because its start-up is part of every container's start. It
/// answers VERSION by itself, and a DEL that finds no node process is left on disk, where the node finds it.

import CLinux
import CNIMessages
import Glibc
import JSON
import Sockets

@main
struct Main {
  static func main() {
    let arguments = CommandLine.arguments
    let program = arguments[0].split(separator: "/").last.map(String.init) ?? "margay-cni"
    if arguments.count > 1, ["-v", "--version", "-h", "--help"].contains(arguments[1]) {
      let versions = CNIVersion.allCases.map(\.rawValue).joined(separator: ", ")
      printLine("\(program): CNI plugin of Margay, protocol \(NodeProtocol.version), CNI versions \(versions)\n\(Installation.usage)")
      return
    }
    if arguments.count > 1, arguments[1] == "install" {
      do throws(Installation.Problem) {
        for line in try Installation(arguments[2...]).run() { printLine(line) }
        return
      } catch {
        try? Files.write(Array("\(program) install: \(error.text)\n".utf8), descriptor: 2, name: "standard error")
        exit(1)
      }
    }
    var version: CNIVersion?
    do throws(CNIError) {
      let call = try CNICall(environment: variable)
      guard call.command != .version else {
        // Runtimes probe it with placeholders: what cannot be read counts as nothing.
        let configuration = (try? readInput()).flatMap { try? parse($0) }
        printLine(CNIVersion.reply(to: configuration).text())
        return
      }
      let input = try readInput()
      guard let configuration = try parse(input) else {
        throw CNIError(.decodingFailure, "failed to load netconf: standard input is empty")
      }
      let spoken = try CNIVersion(configuration: configuration)
      version = spoken
      guard call.command != .check || spoken >= .v0_4_0 else {
        throw CNIError(.incompatibleVersion, "CHECK came with cniVersion \(spoken)", details: "the verb exists since 0.4.0")
      }
      let attachment = Attachment(
        request: NodeRequest(role: PluginRole(program: program), call: call, configuration: configuration),
        delegate: try DelegatedIPAM(configuration, call, input: input, program: program))
      if let result = try attachment.perform() { printLine(result.text(pretty: true)) }
    } catch {
      printLine(error.json(version: version).text(pretty: true))
      exit(1)
    }
  }

  static func variable(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
  }

  static func readInput() throws(CNIError) -> [UInt8] {
    let octets: [UInt8]
    do throws(SystemError) {
      octets = try Files.read(descriptor: 0, name: "standard input", max: NodeProtocol.configurationMax + 1)
    } catch {
      throw CNIError(.inputOutput, "\(error)")
    }
    guard octets.count <= NodeProtocol.configurationMax else {
      throw CNIError(.decodingFailure, "failed to load netconf: standard input has more than \(NodeProtocol.configurationMax) octets")
    }
    return octets
  }

  /// Nil for an empty text.
  static func parse(_ octets: [UInt8]) throws(CNIError) -> JSONValue? {
    if octets.allSatisfy({ $0 <= 0x20 }) { return nil }
    do throws(JSONError) {
      return try JSONValue(parsing: octets)
    } catch {
      throw CNIError(.decodingFailure, "failed to load netconf: standard input:\(error)")
    }
  }

  static func printLine(_ text: String) {
    try? Files.write(Array(text.utf8) + [0x0a], descriptor: 1, name: "standard output")
  }
}
