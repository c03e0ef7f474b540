/// What ADD achieved, in the shape of each version.

public import Addresses
public import JSON

public struct CNIResult: Hashable, Sendable {
  public struct Interface: Hashable, Sendable {
    public var name: String
    public var mac: MACAddress?
    /// The path of the namespace; nil for the host.
    public var sandbox: String?
    public init(name: String, mac: MACAddress?, sandbox: String? = nil) {
      self.name = name
      self.mac = mac
      self.sandbox = sandbox
    }
  }
  public struct Address: Hashable, Sendable {
    public var address: InterfaceAddress
    /// Index into `interfaces`.
    public var interface: Int?
    public var gateway: IPAddress?
    public init(_ address: InterfaceAddress, interface: Int? = nil, gateway: IPAddress? = nil) {
      self.address = address
      self.interface = interface
      self.gateway = gateway
    }
  }
  public struct Route: Hashable, Sendable {
    public var destination: IPPrefix
    public var gateway: IPAddress?
    public init(_ destination: IPPrefix, gateway: IPAddress? = nil) {
      self.destination = destination
      self.gateway = gateway
    }
  }

  public var interfaces: [Interface]
  public var addresses: [Address]
  public var routes: [Route]
  /// The configuration's `dns`, passed on as it is.
  public var dns: JSONValue?

  public init(interfaces: [Interface], addresses: [Address], routes: [Route] = [], dns: JSONValue? = nil) {
    self.interfaces = interfaces
    self.addresses = addresses
    self.routes = routes
    self.dns = dns
  }

  public func json(_ version: CNIVersion) -> JSONValue { version < .v0_3_0 ? legacy(version) : current(version) }

  /// 0.3.0 and later; up to 0.4.0 each address states its family.
  private func current(_ version: CNIVersion) -> JSONValue {
    var result = JSONObject()
    result["cniVersion"] = .string(version.rawValue)
    result["interfaces"] = .array(
      interfaces.map { interface in
        var object = JSONObject()
        object["name"] = .string(interface.name)
        if let mac = interface.mac { object["mac"] = .string(mac.description) }
        if let sandbox = interface.sandbox { object["sandbox"] = .string(sandbox) }
        return .object(object)
      })
    result["ips"] = .array(
      addresses.map { item in
        var object = JSONObject()
        if version < .v1_0_0 { object["version"] = item.address.address.family == .v4 ? "4" : "6" }
        if let index = item.interface { object["interface"] = .integer(Int64(index)) }
        object["address"] = .string(item.address.description)
        if let gateway = item.gateway { object["gateway"] = .string(gateway.description) }
        return .object(object)
      })
    if !routes.isEmpty { result["routes"] = .array(routes.map(Self.json)) }
    result["dns"] = dns ?? .object(JSONObject())
    return .object(result)
  }

  /// 0.1.0 and 0.2.0 know one address of each family and no interfaces.
  private func legacy(_ version: CNIVersion) -> JSONValue {
    var result = JSONObject()
    result["cniVersion"] = .string(version.rawValue)
    for (family, member) in [(IPFamily.v4, "ip4"), (.v6, "ip6")] {
      guard let item = addresses.first(where: { $0.address.address.family == family }) else { continue }
      var object = JSONObject()
      object["ip"] = .string(item.address.description)
      if let gateway = item.gateway { object["gateway"] = .string(gateway.description) }
      let own = routes.filter { $0.destination.family == family }
      if !own.isEmpty { object["routes"] = .array(own.map(Self.json)) }
      result[member] = .object(object)
    }
    result["dns"] = dns ?? .object(JSONObject())
    return .object(result)
  }

  // MARK: Reading

  /// What another plugin printed, in the shape of any version: the result of a delegated IPAM plugin, or `prevResult`.
  /// `place` names it in messages. Throws code 6.
  public init(_ json: JSONValue, place: String) throws(CNIError) {
    func fault(_ what: String) -> CNIError { CNIError(.decodingFailure, "\(place): \(what)") }
    func gateway(_ object: JSONValue, _ member: String) throws(CNIError) -> IPAddress? {
      guard let text = object[member]?.string, !text.isEmpty else { return nil }
      guard let address = IPAddress(text) else { throw fault("\(member) \"\(text)\" is not an IP address") }
      return address
    }
    func address(_ object: JSONValue, _ member: String) throws(CNIError) -> Address {
      guard let text = object[member]?.string, let address = InterfaceAddress(text) else {
        throw fault("an address is not IP/LENGTH: \(object.text())")
      }
      return Address(address, interface: object["interface"]?.integer.map { Int(clamping: $0) }, gateway: try gateway(object, "gateway"))
    }
    func routes(_ list: JSONValue?) throws(CNIError) -> [Route] {
      var routes: [Route] = []
      for item in list?.array ?? [] {
        guard let text = item["dst"]?.string, let destination = InterfaceAddress(text) else {
          throw fault("a route's dst is not IP/LENGTH: \(item.text())")
        }
        routes.append(Route(destination.prefix, gateway: try gateway(item, "gw")))
      }
      return routes
    }
    guard json.object != nil else { throw fault("not a JSON object") }
    interfaces = (json["interfaces"]?.array ?? []).map { item in
      Interface(
        name: item["name"]?.string ?? "", mac: item["mac"]?.string.flatMap { MACAddress($0) },
        sandbox: item["sandbox"]?.string.flatMap { $0.isEmpty ? nil : $0 })
    }
    addresses = []
    for item in json["ips"]?.array ?? [] { addresses.append(try address(item, "address")) }
    self.routes = try routes(json["routes"])
    // 0.1.0 and 0.2.0
    for member in ["ip4", "ip6"] {
      guard let item = json[member], item.object != nil else { continue }
      addresses.append(try address(item, "ip"))
      self.routes += try routes(item["routes"])
    }
    dns = json["dns"].flatMap { $0.object?.isEmpty == false ? $0 : JSONValue?.none }
  }

  private static func json(_ route: Route) -> JSONValue {
    var object = JSONObject()
    object["dst"] = .string(route.destination.description)
    if let gateway = route.gateway { object["gw"] = .string(gateway.description) }
    return .object(object)
  }
}
