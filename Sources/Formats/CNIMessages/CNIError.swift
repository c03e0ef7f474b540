/// What a plugin says when it fails: an object with a code on standard output, and exit code 1.

public import JSON

public struct CNIError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Codes below 100 are of the specification ("Error"), the others our own.
  public struct Code: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let incompatibleVersion = Code(rawValue: 1)
    public static let unsupportedField = Code(rawValue: 2)
    /// Unknown or gone; the runtime need not call DEL for it.
    public static let unknownContainer = Code(rawValue: 3)
    public static let invalidEnvironment = Code(rawValue: 4)
    public static let inputOutput = Code(rawValue: 5)
    public static let decodingFailure = Code(rawValue: 6)
    public static let invalidConfiguration = Code(rawValue: 7)
    /// The caller should repeat the same call after a while.
    public static let tryAgainLater = Code(rawValue: 11)
    /// The kernel or the datastore refused something.
    public static let failed = Code(rawValue: 100)
    /// CHECK found the network other than ADD left it.
    public static let checkFailed = Code(rawValue: 101)
    /// Plugin and node process do not understand each other.
    public static let nodeProtocol = Code(rawValue: 102)
    /// The rules or routes of the endpoint did not reach the kernel in time.
    public static let notProgrammed = Code(rawValue: 103)
  }

  public let code: Code
  /// The object, the cause and, where there is one, the next step.
  public let message: String
  public let details: String

  public init(_ code: Code, _ message: String, details: String = "") {
    self.code = code
    self.message = message
    self.details = details
  }
  public var description: String { "\(message)\(details.isEmpty ? "" : "; \(details)") (code \(code.rawValue))" }

  /// As printed on standard output. 0.1.0 and 0.2.0 have the same object.
  public func json(version: CNIVersion?) -> JSONValue {
    var object = JSONObject()
    object["cniVersion"] = .string((version ?? .latest).rawValue)
    object["code"] = .integer(Int64(code.rawValue))
    object["msg"] = .string(message)
    if !details.isEmpty { object["details"] = .string(details) }
    return .object(object)
  }
}
