/// What the kernel tells: rtnetlink objects, nftables dumps, and the plugin's words.
import Addresses
import CNIMessages
import JSON
import NetlinkMessages
import Octets
import Rulesets

/// The first octet chooses the type of message, the rest is its body.
func checkNetlink(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let types = [16, 17, 20, 21, 24, 25, 28, 29] as [UInt16]
  let type = types[choices.number(below: types.count)]
  let body = choices.rest()
  guard let event = decodeEvent(type, body) else { return }
  var batch = NetlinkBatch()
  switch event {
  case .link(let link), .linkRemoved(let link): return _ = link.description
  case .address(let address), .addressRemoved(let address): RouteNetlinkChange.setAddress(address).encode(into: &batch)
  case .route(let route), .routeRemoved(let route):
    try claim(route.isSatisfied(by: route), "\(route) does not satisfy itself")
    RouteNetlinkChange.addRoute(route).encode(into: &batch)
  case .neighbour(let neighbour), .neighbourRemoved(let neighbour): RouteNetlinkChange.setNeighbour(neighbour).encode(into: &batch)
  // What is only read.
  case .forwarding, .forwardingRemoved, .settings: return
  }
  let written = batch.octets
  var reader = OctetReader(written.span)
  guard let header = try? NetlinkHeader(decoding: &reader), Int(header.length) <= written.count, written.count & 3 == 0 else {
    throw Violation("a message with a wrong header: \(written)")
  }
  guard let again = decodeEvent(header.type, reader.rest()) else { throw Violation("cannot read what it wrote for \(event)") }
  switch (event, again) {
  case (.address(let a), .address(let b)), (.addressRemoved(let a), .address(let b)): try claim(a == b, "\(a) reads back as \(b)")
  case (.route(let a), .route(let b)), (.routeRemoved(let a), .route(let b)): try claim(a == b, "\(a) reads back as \(b): \(a) \(b)")
  case (.neighbour(let a), .neighbour(let b)), (.neighbourRemoved(let a), .neighbour(let b)): try claim(a == b, "\(a) reads back as \(b)")
  default: throw Violation("\(event) reads back as \(again)")
  }
}

private func decodeEvent(_ type: UInt16, _ body: [UInt8]) -> RouteNetlinkEvent? {
  var reader = OctetReader(body.span)
  return (try? RouteNetlinkEvent.decode(type: type, &reader)) ?? nil
}

/// The first octet chooses the kind of message, the rest is its body.
func checkRuleset(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let kind = choices.number(below: 7)
  let body = choices.rest()
  var reader = OctetReader(body.span)
  switch kind {
  case 0: _ = try? RulesetReading.table(&reader)
  case 1: _ = try? RulesetReading.table(body: &reader)
  case 2: _ = try? RulesetReading.chain(body: &reader)
  case 3:
    guard let (_, _, rule) = try? RulesetReading.rule(body: &reader) else { return }
    for expression in rule.expressions {
      if case .unknown = expression { continue }
      var writer = OctetWriter()
      expression.encode(into: &writer)
      let written = writer.octets
      var second = OctetReader(written.span)
      var again: Expression?
      _ = try? second.attributes { _, value throws(WireError) in again = try Expression(decoding: &value) }
      try claim(again == expression, "\(expression) reads back as \(String(describing: again))")
    }
  case 4: _ = try? RulesetReading.set(body: &reader)
  case 5: _ = try? RulesetReading.generation(body: &reader)
  default:
    guard let raw = try? RulesetReading.elements(body: &reader) else { return }
    let interval: UInt32 = 4
    try claim(RulesetReading.join(raw, flags: 0) == Set(raw.map(\.element)), "a set without ranges is taken as it is")
    let joined = RulesetReading.join(raw, flags: interval)
    try claim(joined.count <= raw.count, "\(joined.count) ranges of \(raw.count) elements")
    try claim(joined.allSatisfy { $0.last != nil }, "a range without an end")
  }
}

/// The first octet chooses between the words of a runtime and those of the node's socket.
func checkCNI(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let kind = choices.number(below: 4)
  let body = choices.rest()
  switch kind {
  case 0:
    guard let value = try? JSONValue(parsing: body) else { return }
    _ = CNIVersion.reply(to: value)
    guard let configuration = try? NetworkConfiguration(value) else { return }
    try claim(!configuration.name.isEmpty, "a network without a name")
    try claim(configuration.mac.map { $0.octets[0] & 1 == 0 } ?? true, "a group address for an interface")
  case 1:
    let unframed = Result { () throws(CNIError) in try NodeProtocol.unframe(body) }
    if case .success(let value?) = unframed {
      try claim((try? NodeProtocol.unframe(NodeProtocol.frame(value)))??.bytes == value.bytes, "the frame of \(value.text())")
      try checkNodeWords(value)
    }
    if case .success(nil) = unframed, body.count >= 4 {
      try claim(body.count < 4 + NodeProtocol.frameMax, "waits for more than a frame may hold")
    }
  case 2:
    guard let value = try? JSONValue(parsing: body) else { return }
    try checkNodeWords(value)
  default:
    // NAME=value, separated by zeros, as the kernel hands an environment over.
    var environment: [String: String] = [:]
    for entry in body.split(separator: 0) {
      let text = String(decoding: entry, as: UTF8.self)
      guard let equals = text.utf8.firstIndex(of: UInt8(ascii: "=")) else { continue }
      environment[String(text[..<equals])] = String(text[text.utf8.index(after: equals)...])
    }
    guard let call = try? CNICall(environment: { environment[$0] }) else { return }
    _ = try? call.arguments.labels
    _ = call.arguments.pod
    if call.command != .version {
      let request = NodeRequest(call: call, configuration: ["name": "n"])
      guard let again = try? NodeRequest(request.json) else { throw Violation("cannot read its request: \(request.json.text())") }
      try claim(again == request, "\(request) reads back as \(again)")
    }
  }
}

private func checkNodeWords(_ value: JSONValue) throws(Violation) {
  if let request = try? NodeRequest(value) {
    guard let again = try? NodeRequest(request.json) else { throw Violation("cannot read its request: \(request.json.text())") }
    try claim(again == request, "\(request) reads back as \(again)")
    let name = request.tombstoneName
    try claim(
      name.utf8.count <= 255 && !name.utf8.contains(UInt8(ascii: "/")) && name.utf8.first != UInt8(ascii: "."),
      "the tombstone's name \(name)")
  }
  if let response = try? NodeResponse(value) {
    guard let again = try? NodeResponse(response.json) else { throw Violation("cannot read its response: \(response.json.text())") }
    try claim(again == response, "\(response) reads back as \(again)")
  }
}
