from tests.digits import augmentation, digits, network, protocol, transform

__all__ = ["augmentation", "digits", "network", "protocol", "transform"]
