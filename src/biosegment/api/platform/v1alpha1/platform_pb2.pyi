from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("services",)
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[ServiceStatus]
    def __init__(self, services: _Optional[_Iterable[_Union[ServiceStatus, _Mapping]]] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("service", "health", "version", "address")
    class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        HEALTH_UNSPECIFIED: _ClassVar[ServiceStatus.Health]
        HEALTH_SERVING: _ClassVar[ServiceStatus.Health]
        HEALTH_NOT_SERVING: _ClassVar[ServiceStatus.Health]
        HEALTH_UNREACHABLE: _ClassVar[ServiceStatus.Health]
    HEALTH_UNSPECIFIED: ServiceStatus.Health
    HEALTH_SERVING: ServiceStatus.Health
    HEALTH_NOT_SERVING: ServiceStatus.Health
    HEALTH_UNREACHABLE: ServiceStatus.Health
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    service: str
    health: ServiceStatus.Health
    version: str
    address: str
    def __init__(self, service: _Optional[str] = ..., health: _Optional[_Union[ServiceStatus.Health, str]] = ..., version: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...
